"""Where in an application's code something was written."""

from __future__ import annotations

import inspect
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


def calling_place() -> str:
    """`file:line` of the application's code that has called into this package."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return f"{shown_path(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else "unknown place"


def shown_path(path: str | Path) -> str:
    """The path as an author knows it: relative to the current folder when it lies inside."""
    path = Path(path)
    try:
        return str(path.relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except (ValueError, OSError):
        return str(path)
