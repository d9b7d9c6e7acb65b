"""Spans of time as people say them."""

from __future__ import annotations

_HUNDREDTHS_BELOW = 10
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def duration(seconds: float) -> str:
    """A span in at most two units: `0.25 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < _HUNDREDTHS_BELOW:
        return f"{max(seconds, 0):.2f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    for size, name, smaller, small_name in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"
