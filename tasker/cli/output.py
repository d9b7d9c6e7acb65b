"""What commands print: JSON with stable keys, tables for people, plain columns for pipes."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Item = TypeVar("Item")

NOTHING = "-"
GAP = "  "
FREE_TEXT = {"AFTER", "ERROR", "RESULT OR ERROR", "TAGS", "VALUE"}
"""Columns that are folded where a terminal is too narrow."""
FREE_TEXT_WIDTH = 24
PARTS_AT_ONCE = 1000
"""Pieces of JSON that are written together."""


class Look(NamedTuple):
    """How a state appears to people: a sign, a plain sign where the terminal knows no other, a colour."""

    sign: str
    plain: str
    colour: str


LOOKS = {
    "pending": Look("○", ".", "bright_black"),
    "ready": Look("◌", ":", "cyan"),
    "enqueued": Look("◔", ">", "cyan"),
    "in_progress": Look("▶", "*", "yellow"),
    "waiting_for_retry": Look("↻", "~", "yellow"),
    "waiting": Look("◷", "~", "blue"),
    "paused": Look("‖", "=", "blue"),
    "complete": Look("✔", "+", "green"),
    "skipped": Look("»", "+", "green"),
    "resolved_manually": Look("✔", "+", "green"),
    "error": Look("✖", "!", "red"),
    "cancelled": Look("⊘", "x", "magenta"),
}


class Streamed(list[Item]):
    """A list whose items are made while it is printed, once, so that it may be long. It is never empty."""

    def __init__(self, items: Iterable[Item]) -> None:
        super().__init__()
        self._items = items

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __bool__(self) -> bool:
        return True


def print_json(value: Any) -> None:
    """Print a value as JSON: times as ISO 8601, other objects as text."""
    unicode = shows("\N{SNOWMAN}\N{GRINNING FACE}")
    encoder = json.JSONEncoder(indent=2, ensure_ascii=not unicode, default=text_of)
    parts: list[str] = []
    for part in encoder.iterencode(value):
        parts.append(part)
        if len(parts) == PARTS_AT_ONCE:
            click.echo("".join(parts), nl=False)
            parts = []
    click.echo("".join(parts))


def text_of(value: Any) -> str:
    """A value as people and JSON read it: times with their offset."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def cell(value: Any) -> str:
    """A value in a table: a dash for nothing, times to the second."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=text_of)
    return str(value)


def state_text(state: str) -> str:
    """A state with its sign, coloured where colours are shown."""
    look = LOOKS.get(state)
    if look is None:
        return state
    return click.style(f"{look.sign if shows(look.sign) else look.plain} {state}", fg=look.colour)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, nothing: str) -> None:
    """Print rows under their columns: a table on a terminal, aligned plain text in a pipe.

    Columns named STATE show signs and colours on a terminal. With no rows, `nothing` goes to standard error.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(nothing, err=True)
    elif sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain([list(columns), *cells])


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print `name  value` lines, aligned; a value of several lines is indented."""
    width = max(map(len, fields))
    for name, value in fields.items():
        text = state_text(value) if name == "state" and sys.stdout.isatty() else cell(value)
        indented = text.replace("\n", f"\n{'':{width + len(GAP)}}")
        click.echo(f"{click.style(f'{name:{width}}', bold=True)}{GAP}{indented}")


def note(text: str) -> None:
    """Say something beside the answer: progress, hints. Goes to standard error."""
    click.echo(text, err=True)


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = GAP.join(f"{text:{width}}" for text, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [
        [
            Text.from_ansi(state_text(text)) if name == "STATE" else Text(text)
            for name, text in zip(columns, row, strict=True)
        ]
        for row in rows
    ]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, len(GAP), 0, 0))
    needed = 0
    for name, *texts in zip(columns, *shown, strict=True):
        # what somebody may want to copy is never cut: it is worth a line that is too long
        folds = name in FREE_TEXT
        width = max(len(name), *(len(text) for text in texts))
        needed += len(GAP) + (min(width, FREE_TEXT_WIDTH) if folds else width)
        table.add_column(name, no_wrap=not folds, overflow="fold", min_width=0 if folds else width)
    for cells in shown:
        table.add_row(*cells)
    Console(width=max(needed, shutil.get_terminal_size().columns)).print(table)


def shows(sign: str) -> bool:
    """Whether standard output can carry these characters."""
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
