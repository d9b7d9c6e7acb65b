"""What nobody should read in stored errors and in logs: passwords, tokens, keys.

The rules are few, so that people can know them: the password of a URL; what follows `Authorization:`, and
`Bearer` or `Basic`; what is assigned to a name that ends in password, secret, token, key of an API, or the
like, as `token=…` or `"token": …`. Beside them, secrets known literally are hidden wherever they stand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
SHORTEST_KNOWN = 6
"""Hiding a shorter password wherever its letters stand would hide half of every text."""

_QUOTE = r"\\{0,3}[\"']"
_NAME = r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|(?:api|access|private|secret)[_-]?key)"
_ASSIGNED = rf"(?:(?:{_QUOTE})?\s{{0,3}}=(?!=)|{_QUOTE}\s{{0,3}}:)\s{{0,3}}"
_VALUE = r"(?:[a-z]{0,2}\"[^\"\n]*\"?|[a-z]{0,2}'[^'\n]*'?|[^\s,;&)}\]]+)"
_HEADER = rf"authorization(?:{_QUOTE})?\s{{0,3}}[:=]\s{{0,3}}(?:{_QUOTE})?"
# Every repetition that a text could make long is bounded, or ends at the next space: the cost is linear.
_RULES = tuple(
    re.compile(rule, re.IGNORECASE)
    for rule in (
        r"(?P<before>\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@]*:)[^\s/]+(?=@)",
        rf"(?P<before>{_HEADER})(?:[a-z]{{1,20}}\s{{1,3}})?[^\s\"',;]+",
        r"(?P<before>\b(?:bearer|basic)\s{1,3})(?=[\w.~+/=-]{0,500}\d)[\w.~+/=-]{8,}",
        rf"(?P<before>{_NAME}{_ASSIGNED}){_VALUE}",
    )
)


class Redaction:
    """Hides secrets in text: by the rules, and those known literally."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        longest_first = sorted({secret for secret in known if secret}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def hide(self, text: str) -> str:
        """The text with every secret replaced by `***`. Again changes nothing."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for rule in _RULES:
            text = rule.sub(rf"\g<before>{HIDDEN}", text)
        return text


BY_RULES = Redaction()
"""Knows no secret literally."""


def passwords(url: str) -> set[str]:
    """The password of a URL, as it stands there and decoded; none that is short or no secret by its looks.

    One that is also the URL's user, host or path (`postgres:postgres@…`) would hide what is no secret.
    """
    try:
        parts = urlsplit(url)
        given = {parts.password or "", *parse_qs(parts.query).get("password", ())}
        open_words = {parts.username, parts.hostname, parts.path.strip("/"), parts.scheme}
    except ValueError:
        return set()
    found = given | {unquote(each) for each in given}
    return {each for each in found if len(each) >= SHORTEST_KNOWN and each not in open_words}
