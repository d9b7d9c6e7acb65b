"""Template versions (SemVer 2.0.0) and references to templates."""

from __future__ import annotations

import re
from typing import NamedTuple

from tasker.domain.errors import TemplateError, ValueRefused

DEFAULT_NAMESPACE = "default"
MAX_VERSION_LENGTH = 64
NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
NAME_RULE = (
    "must be lower-case letters, digits, _ and -, begin with a letter, and have at most 100 characters"
)

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_SEMVER = re.compile(
    rf"(?P<core>{_NUMBER}\.{_NUMBER}\.{_NUMBER})"
    rf"(?:-(?P<pre>(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
    rf"(?:\.(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


class Reference(NamedTuple):
    """What `submit` is given: a template by name, and the version when one is pinned."""

    namespace: str
    name: str
    version: str | None = None

    def __str__(self) -> str:
        pinned = f"@{self.version}" if self.version else ""
        return f"{self.namespace}/{self.name}{pinned}"


def parse_reference(text: str) -> Reference:
    """`name`, `namespace/name` or `namespace/name@1.0.0`. Raises ValueRefused."""
    full_name, at, version = text.partition("@")
    namespace, name = split_full_name(full_name)
    for part in (namespace, name):
        if not NAME.fullmatch(part):
            raise ValueRefused(f'template: "{text}" names none: "{part}" {NAME_RULE}')
    if at and not is_version(version):
        raise ValueRefused(f'template: "{text}": "{version}" is not a version such as 1.0.0')
    return Reference(namespace, name, version or None)


def split_full_name(full_name: str) -> tuple[str, str]:
    """(namespace, name); without a slash the namespace is `default`."""
    namespace, slash, name = full_name.partition("/")
    return (namespace, name) if slash else (DEFAULT_NAMESPACE, namespace)


def is_version(version: object) -> bool:
    """Whether this is a SemVer 2.0.0 version that can be stored."""
    return (
        isinstance(version, str)
        and len(version) <= MAX_VERSION_LENGTH
        and _SEMVER.fullmatch(version) is not None
    )


def bumped(version: str) -> str:
    """The version to give to what has changed since `version`: 1.0.0 -> 1.0.1, 1.0.0-rc.1 -> 1.0.0-rc.2."""
    parts = _SEMVER.fullmatch(version)
    if parts is None:
        raise ValueError(f"{version!r} is not a version such as 1.0.0")
    before, dot, last = version.partition("+")[0].rpartition(".")
    if last.isdigit():
        return f"{before}{dot}{int(last) + 1}"
    core, _, patch = parts["core"].rpartition(".")
    return f"{core}.{int(patch) + 1}"


def version_key(version: str) -> str:
    """A text that sorts by bytes (`collate "C"`) as SemVer orders versions.

    SemVer gives build metadata no rank; here it orders versions that are otherwise equal, so that
    `1.0.0+dev.10` is newer than `1.0.0+dev.9` and both newer than `1.0.0`. Raises TemplateError.
    """
    parts = _SEMVER.fullmatch(version) if is_version(version) else None
    if parts is None:
        raise TemplateError(f'"{version}" is not a version such as 1.0.0')
    core = "".join(_number_key(number) for number in parts["core"].split("."))
    # "-" < "~" puts a pre-release before its release; "+" < "0" a shorter list before a longer one.
    rank = f"-{_identifiers_key(parts['pre'])}" if parts["pre"] else "~"
    build = f"+{_identifiers_key(parts['build'])}" if parts["build"] else ""
    return core + rank + build


def _identifiers_key(identifiers: str) -> str:
    return "".join(_identifier_key(identifier) for identifier in identifiers.split("."))


def _identifier_key(identifier: str) -> str:
    """Numbers rank below words; "!" ends a word because it sorts below every character of one."""
    if identifier.isdigit() and (identifier == "0" or identifier[0] != "0"):
        return f"0{_number_key(identifier)}"
    return f"1{identifier}!"


def _number_key(digits: str) -> str:
    return f"{len(digits):02d}{digits}"
