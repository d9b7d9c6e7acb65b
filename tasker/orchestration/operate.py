"""Operator actions: one implementation of each for the client, the CLI and the API.

An actor of more than 255 characters, a reason of more than 2 000, and what is no text, raise ValueRefused.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tasker.db import functions, holds, queries
from tasker.domain.errors import StateConflict, WaitTimeout
from tasker.domain.values import checked_text
from tasker.orchestration.submit import LONGEST_NAME, LONGEST_REASON

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from tasker.domain.records import QueueRecord
    from tasker.domain.replies import Moved
    from tasker.orchestration.engine import Engine

LOOK_SECONDS = 0.2
"""How often draining a queue looks whether something of it still runs."""


def cancel_task(engine: Engine, task: UUID, *, actor: str | None, reason: str | None) -> None:
    """End a task and every open step of it. Again changes nothing.

    Raises StateConflict when the task has ended otherwise.
    """
    reply = engine.run(functions.cancel_tasks, [task], *_words(actor, reason))
    for refused in reply.refused:
        raise StateConflict(f"task {task} is {refused['state']} and cannot be cancelled any more")


def pause_task(engine: Engine, task: UUID, *, actor: str | None, reason: str | None) -> None:
    """Hold a task: what runs ends, and nothing more of it starts until it is resumed. Again changes nothing.

    Raises StateConflict unless the task is in progress.
    """
    reply = engine.run(functions.pause_tasks, [task], *_words(actor, reason))
    for refused in reply.refused:
        raise StateConflict(f"task {task} is {refused['state']}, and only a task in progress can be paused")


def resume_task(engine: Engine, task: UUID, *, actor: str | None, reason: str | None) -> None:
    """Let a paused task go on; it settles if meanwhile all has failed that could run. Again changes nothing.

    Raises StateConflict for a task that is not in progress and was not resumed before.
    """
    reply = engine.run(functions.resume_tasks, [task], *_words(actor, reason))
    for refused in reply.refused:
        raise StateConflict(f"task {task} is {refused['state']}, and only a paused task can be resumed")


def pause_queue(engine: Engine, queue: str, *, actor: str | None, reason: str | None) -> QueueRecord:
    """Hold a queue: what runs ends, and nothing more of it starts until it is resumed. Again changes nothing.

    Raises QueueNotFound.
    """
    engine.database.call(functions.pause_queues, [queue], *_words(actor, reason))
    return engine.database.call(holds.get_queue, queue)


def resume_queue(engine: Engine, queue: str) -> QueueRecord:
    """Let a paused queue go on; the coordinator starts what it held. Again changes nothing.

    Raises QueueNotFound.
    """
    engine.database.call(functions.resume_queues, [queue])
    return engine.database.call(holds.get_queue, queue)


def drain_queue(
    engine: Engine,
    queue: str,
    *,
    actor: str | None,
    reason: str | None,
    timeout_seconds: float | None,
    tell: Callable[[int], None],
) -> QueueRecord:
    """Pause a queue, and wait until none of its steps runs; it stays paused. Again waits again.

    `tell` hears at each look how many steps still run. Raises QueueNotFound, and WaitTimeout after
    `timeout_seconds`; None waits for ever.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    pause_queue(engine, queue, actor=actor, reason=reason)
    calls = engine.database.call(holds.calls_under_way)
    while True:
        # before the steps: a call that has ended is seen in what it started
        calls &= engine.database.call(holds.calls_under_way)
        running = engine.database.call(holds.running_steps, queue)
        if not calls and not running:
            return engine.database.call(holds.get_queue, queue)
        tell(running)
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeout(
                f"still running on queue {queue} after {timeout_seconds:g} s: {running}; the queue stays "
                f"paused, and `tasker queue resume {queue}` lets it go on"
            )
        time.sleep(LOOK_SECONDS)


def retry_task(engine: Engine, task: UUID, *, actor: str | None, reason: str | None) -> list[int]:
    """Give every failed step of a task another go, with its full number of attempts; their ids.

    Raises StateConflict when no step of the task is in error.
    """
    failed = engine.database.call(queries.failed_steps, task)
    if not failed:
        raise StateConflict(f"task {task} has no step in error; see `tasker task why {task}`")
    return _retry(engine, failed, [task], actor, reason)


def retry_steps(engine: Engine, steps: Sequence[int], *, actor: str | None, reason: str | None) -> list[int]:
    """Give failed steps another go, with their full number of attempts; their ids.

    Raises StateConflict naming the first that is not in error; the others are moved all the same.
    """
    return _retry(engine, steps, [], actor, reason)


def _retry(
    engine: Engine, steps: Sequence[int], tasks: Sequence[UUID], actor: str | None, reason: str | None
) -> list[int]:
    attempts = engine.database.call(queries.attempts_made, steps)
    reply = engine.run(functions.retry_steps, steps, tasks, *_words(actor, reason))
    if reply.refused:
        # a call whose reply was lost is repeated, and finds that workers have gone on with what it retried
        retried = engine.database.call(queries.retried_after, attempts)
        refused = [each for each in reply.refused if each["step_id"] not in retried]
        _moved(replace(reply, refused=refused), "retried")
    return sorted({*steps, *reply.ids})


def park_steps(engine: Engine, steps: Sequence[int], *, actor: str, reason: str | None) -> list[int]:
    """Take steps out that do not run, until they are retried; the ids of those moved. Again changes nothing.

    Raises StateConflict naming the first that runs or has ended; the others are moved all the same.
    """
    return _moved(engine.run(functions.park_by_hand, steps, *_words(actor, reason)), "parked")


def _words(actor: str | None, reason: str | None) -> tuple[str | None, str | None]:
    """Who and why, as they can be stored. Raises ValueRefused."""
    return (
        None if actor is None else checked_text(actor, "actor", LONGEST_NAME),
        None if reason is None else checked_text(reason, "reason", LONGEST_REASON),
    )


def _moved(reply: Moved, done: str) -> list[int]:
    for refused in reply.refused:
        raise StateConflict(
            f"step {refused['task_id']}/{refused['step']} is {refused['state']} and cannot be {done} "
            f"(its task is {refused['task_state']}); see `tasker task why {refused['task_id']}`"
        )
    return list(reply.ids)
