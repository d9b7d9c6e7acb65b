"""From an exception to what a person reads on standard error and what a script reads as the exit code."""

from __future__ import annotations

import os
import traceback
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[1]
INSUFFICIENT_PRIVILEGE = "42501"
"""PostgreSQL's SQLSTATE. A refused login has none: it cannot be told from a server that is away."""


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    NOT_ALLOWED = 5
    UNREACHABLE = 6
    TASK_FAILED = 10
    TASK_CANCELLED = 11
    TIMED_OUT = 124
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed; for `db status` something is pending, for `doctor` something is wrong",
    ExitCode.USAGE: "the command line is wrong, or a value on it cannot be taken",
    ExitCode.NOT_FOUND: "no such task, step, template or queue",
    ExitCode.CONFLICT: "its state, or what is stored already, does not allow it",
    ExitCode.NOT_ALLOWED: "the database's user may not do this",
    ExitCode.UNREACHABLE: "PostgreSQL or the broker does not answer, or refuses the login",
    ExitCode.TASK_FAILED: "waited for a task that ended in error",
    ExitCode.TASK_CANCELLED: "waited for a task that was cancelled",
    ExitCode.TIMED_OUT: "waited too long; what was waited for goes on",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that an exception stands for."""
    from tasker.domain import errors

    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if any(_is_refusal(cause) for cause in _causes(error)):
        return ExitCode.NOT_ALLOWED
    codes: tuple[tuple[type[Exception], ExitCode], ...] = (
        (errors.ValueRefused, ExitCode.USAGE),
        (errors.NotFound, ExitCode.NOT_FOUND),
        (errors.StateConflict, ExitCode.CONFLICT),
        (errors.TemplateConflict, ExitCode.CONFLICT),
        (errors.Unreachable, ExitCode.UNREACHABLE),
        (errors.WaitTimeout, ExitCode.TIMED_OUT),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), ExitCode.FAILURE)


def report(error: BaseException) -> ExitCode:
    """Print an exception on standard error, `error: what; remedy` a line each; the exit code to end with.

    A traceback is printed when TASKER_DEBUG is set.
    """
    if os.environ.get("TASKER_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        click.echo(err=True)
    else:
        for line in _lines(error):
            say(line)
    return exit_code(error)


def say(error: str) -> None:
    """Print `error: …` on standard error."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(error, err=True)


def _lines(error: BaseException) -> Iterator[str]:
    """One entry for each thing that is wrong; further lines of the same thing are indented."""
    from tasker.domain import errors
    from tasker.domain.redaction import BY_RULES

    match error:
        case errors.TemplateError():
            found = list(error.problems)
        case errors.SettingsError():
            found = str(error).splitlines()
        case errors.Unreachable():
            # libpq's message has several lines
            found = [f"{' '.join(str(error).split())}; `tasker config show` prints the address in use"]
        case errors.TaskerError():
            found = [str(error)]
        case _:
            found = [_unforeseen(error)]
    for each in found:
        yield BY_RULES.hide(each).replace("\n", "\n  ")


def _unforeseen(error: BaseException) -> str:
    """An exception nobody meant to raise: of the application that `-A` imports, or of Tasker."""
    if _is_refusal(error):
        return f"{str(error).strip()}; the database's owner can grant it, see `tasker db sql`"
    if isinstance(error, SyntaxError) and error.filename:
        line = f": {error.text.strip()}" if error.text else ""
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno}){line}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    of_the_application = [frame for frame in frames if _is_application(Path(frame.filename))]
    place = "".join(f" ({frame.filename}:{frame.lineno})" for frame in (of_the_application or frames)[-1:])
    return f"{type(error).__name__}: {error}{place}; TASKER_DEBUG=1 shows the traceback"


def _is_application(file: Path) -> bool:
    return file.is_relative_to(Path.cwd()) and not file.is_relative_to(PACKAGE)


def _is_refusal(error: BaseException) -> bool:
    return getattr(error, "sqlstate", None) == INSUFFICIENT_PRIVILEGE


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
