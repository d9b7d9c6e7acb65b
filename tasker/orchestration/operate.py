"""Operator actions: one implementation of each for the client, the CLI and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker.db import functions
from tasker.domain.errors import StateConflict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tasker.domain.replies import Moved
    from tasker.orchestration.engine import Engine


def cancel_task(engine: Engine, task: UUID, *, actor: str | None, reason: str | None) -> None:
    """End a task and every open step of it. Again changes nothing.

    Raises StateConflict when the task has ended otherwise.
    """
    reply = engine.run(functions.cancel_tasks, [task], actor, reason)
    for refused in reply.refused:
        raise StateConflict(f"task {task} is {refused['state']} and cannot be cancelled any more")


def retry_task(engine: Engine, task: UUID, *, actor: str | None, reason: str | None) -> list[int]:
    """Give every failed step of a task another go, with its full number of attempts; their ids.

    Raises StateConflict when no step of the task is in error.
    """
    reply = engine.run(functions.retry_steps, [], [task], actor, reason)
    if not reply.ids:
        raise StateConflict(f"task {task} has no step in error; see `tasker task why {task}`")
    return list(reply.ids)


def retry_steps(engine: Engine, steps: Sequence[int], *, actor: str | None, reason: str | None) -> list[int]:
    """Give failed steps another go, with their full number of attempts; the ids of those moved.

    Raises StateConflict naming the first that is not in error; the others are moved all the same.
    """
    return _moved(engine.run(functions.retry_steps, steps, [], actor, reason), "retried")


def _moved(reply: Moved, done: str) -> list[int]:
    for refused in reply.refused:
        raise StateConflict(
            f"step {refused['task_id']}/{refused['step']} is {refused['state']} and cannot be {done} "
            f"(its task is {refused['task_state']}); see `tasker task why {refused['task_id']}`"
        )
    return list(reply.ids)
