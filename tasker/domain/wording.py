"""Parts of error messages."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 60
_COMPARED = 2_000
"""Comparing is quadratic in the words' lengths; a template may hold 100 000 names."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "charge"?` for the known word nearest to `word`, or nothing when none is near."""
    candidates = list(islice(known, _COMPARED))
    near = get_close_matches(word, candidates, n=1) or [name for name in candidates if name == word.lower()]
    return f'; did you mean "{near[0]}"?' if near else ""


def shown(value: object) -> str:
    """The value's repr, cut where it gets long; one that cannot be had is named by its type."""
    try:
        text = repr(value)
    except Exception as broken:  # noqa: BLE001 - the value is a user's, and may do anything
        return f"<{type(value).__name__} whose repr() raised {type(broken).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
