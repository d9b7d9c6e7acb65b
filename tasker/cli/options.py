"""Options that several commands have."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def output_option(*forms: str) -> Callable[[F], F]:
    """`-o`: how to print the answer; the first form is the default. Passed as `form`."""
    choices = forms or ("table", "json")
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How to print the answer; the keys of json are stable.",
    )


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


class StepName(click.ParamType[tuple[str, str]]):
    """A step, named `TASK_ID/STEP`."""

    name = "TASK_ID/STEP"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The task's id and the step's name."""
        if isinstance(value, tuple):
            return value
        task, slash, step = str(value).partition("/")
        if not (task and slash and step):
            self.fail(
                f"{value!r} names no step; write TASK_ID/STEP, as `tasker step list TASK_ID` does", param, ctx
            )
        return task, step


class Duration(click.ParamType[float]):
    """A time span: `90` and `90s` are seconds; `5m`, `2h` and `1d` longer ones."""

    name = "DURATION"
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}  # noqa: RUF012 - read only

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float | int):
            return float(value)
        text = str(value)
        unit = self.units.get(text[-1:], None)
        try:
            seconds = float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            self.fail(f"{text!r} is no time span; write 90, 90s, 5m, 2h or 1d", param, ctx)
        if not 0 <= seconds < float("inf"):
            self.fail(f"{text!r} is no time span that can be waited for", param, ctx)
        return seconds
