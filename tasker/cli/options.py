"""Options that several commands have."""

from __future__ import annotations

import getpass
import json
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta
    from uuid import UUID

F = TypeVar("F", bound="Callable[..., Any]")

SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)")
MOST_LISTED = 1000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def output_option(*forms: str, default: str | None = None) -> Callable[[F], F]:
    """`-o`: how to print the answer; passed as `form`. The first form is the default.

    With `default`, its description, None is passed when the option is not given.
    """
    choices = forms or ("table", "json")
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(choices),
        default=None if default else choices[0],
        show_default=default or True,
        help="How to print the answer; the keys of json are stable.",
    )


def paging_options(default: int = 50) -> Callable[[F], F]:
    """`--limit` and `--cursor` of a list."""
    cursor = click.option("--cursor", metavar="CURSOR", help="Go on where the list before this one ended.")
    limit = click.option(
        "--limit",
        type=click.IntRange(1, MOST_LISTED),
        metavar="N",
        default=default,
        show_default=True,
        help="How many to list at most.",
    )
    return lambda command: limit(cursor(command))


def operator_options(command: F) -> F:
    """`--actor` and `--reason`, kept with every move that an operator makes."""
    reason = click.option("--reason", metavar="TEXT", help="Why, for whoever reads the log later.")
    actor = click.option(
        "--actor",
        metavar="NAME",
        default=this_user,
        help="Who does this, for whoever reads the log later.  [default: you@this-host]",
    )
    return actor(reason(command))


def this_user() -> str:
    """`user@host`, for the log of moves."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object, given as text, as `@FILE`, or as `-` for standard input."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The object. Fails as click's types do, saying where the JSON breaks."""
        if isinstance(value, dict):
            return value
        text, where = self._read(str(value), param, ctx)
        try:
            found = json.loads(text)
        except ValueError as error:
            self.fail(f"{where} is not JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f'{where} must be a JSON object, such as {{"order_id": 42}}', param, ctx)
        return found

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if value == "-":
            return sys.stdin.read(), "standard input"
        if not value.startswith("@"):
            return value, "the text"
        file = Path(value[1:])
        try:
            return file.read_text("utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", param, ctx)


class TaskId(click.ParamType["UUID"]):
    """The id of a task."""

    name = "TASK_ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        """The id. Fails as click's types do."""
        from uuid import UUID

        try:
            return UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is no task id; `tasker task list` prints those there are", param, ctx)


class StepName(click.ParamType["tuple[UUID, str]"]):
    """A step, named `TASK_ID/STEP`."""

    name = "TASK_ID/STEP"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[UUID, str]:
        """The task's id and the step's name."""
        if isinstance(value, tuple):
            return value
        task, _, step = str(value).partition("/")
        if not step:
            self.fail(f"{value!r} names no step; write TASK_ID/STEP, as `tasker step list` does", param, ctx)
        return TaskId().convert(task, param, ctx), step


class Duration(click.ParamType[float]):
    """A time span: `90` and `90s` are seconds; `5m`, `2h` and `1d` longer ones."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"{str(value)!r} is no time span; write 90, 90s, 5m, 2h or 1d", param, ctx)
        return seconds


class Moment(click.ParamType["datetime | timedelta"]):
    """A time in ISO 8601, local without an offset, or a time span: `5m` from now, with `past` before now."""

    name = "TIME"

    def __init__(self, *, past: bool = False) -> None:
        self.past = past

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        """The time with its offset; for a time to come, a time span as it is: the database has the clock."""
        from datetime import UTC, datetime, timedelta

        if isinstance(value, datetime | timedelta):
            return value
        seconds = seconds_of(str(value))
        if seconds is not None:
            span = timedelta(seconds=seconds)
            return datetime.now(UTC) - span if self.past else span
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; write 2h, or 2026-01-31T09:00+01:00", param, ctx)
        return found.astimezone() if found.tzinfo is None else found


def seconds_of(text: str) -> float | None:
    """The seconds of a time span such as `90`, `1.5h` or `2d`; None when it is none."""
    found = SPAN.fullmatch(text)
    return float(found[1]) * UNITS[found[2] or "s"] if found else None
