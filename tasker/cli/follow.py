"""Waiting for a task, with its progress on standard error when a person looks on."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from tasker.cli.failures import ExitCode

if TYPE_CHECKING:
    from tasker.db.engine import Database
    from tasker.domain.records import TaskRecord
    from tasker.orchestration.client import Task

LOOK_SECONDS = 0.5
ERASE_LINE = "\r\x1b[K"

ENDS = {"error": ExitCode.TASK_FAILED, "cancelled": ExitCode.TASK_CANCELLED}
"""Exit codes of waiting, by the state in which the task settled; the others are good ends."""


def follow(task: Task, database: Database, timeout: float | None) -> ExitCode:
    """Wait until the task is settled; the exit code for how. Raises WaitTimeout."""
    if sys.stderr.isatty():
        _follow_on_terminal(task, database, timeout)
    else:
        task.wait(timeout)
    return ENDS.get(task.state, ExitCode.OK)


def _follow_on_terminal(task: Task, database: Database, timeout: float | None) -> None:
    from tasker.db import queries
    from tasker.domain.errors import WaitTimeout

    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            try:
                task.wait(max(0.0, min(left, LOOK_SECONDS)))
            except WaitTimeout:
                if left <= LOOK_SECONDS and deadline is not None:
                    raise WaitTimeout(_too_long(task, timeout)) from None
                click.echo(
                    ERASE_LINE + _progress(database.call(queries.get_task, task.id)), nl=False, err=True
                )
            else:
                return
    finally:
        click.echo(ERASE_LINE, nl=False, err=True)


def _progress(task: TaskRecord) -> str:
    done = task.steps_total - task.steps_open
    failed = f", {task.steps_failed} failed" if task.steps_failed else ""
    return f"{task.template} is {task.state}: {done} of {task.steps_total} steps done{failed}"


def _too_long(task: Task, timeout: float | None) -> str:
    return (
        f"task {task.id} is not settled after {timeout} s and goes on; "
        f"`tasker task why {task.id}` says what it waits for"
    )
