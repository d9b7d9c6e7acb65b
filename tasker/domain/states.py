"""The states of tasks and steps, and the one table of moves between them.

SQL performs the moves; `tests/sql` proves that every transition it writes is in this table, and
`docs/states.md` is drawn from it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from transitions import Machine


class StepState(StrEnum):
    """Where a step stands; `*` in the docs marks the final ones."""

    PENDING = "pending"
    READY = "ready"
    ENQUEUED = "enqueued"
    IN_PROGRESS = "in_progress"
    WAITING_FOR_RETRY = "waiting_for_retry"
    WAITING = "waiting"
    COMPLETE = "complete"
    SKIPPED = "skipped"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"


class TaskState(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"


class Move(NamedTuple):
    """One row of the table: `event` takes an entity from `source` to `target`."""

    source: str
    event: str
    target: str
    by: str


SATISFYING = frozenset({StepState.COMPLETE, StepState.SKIPPED, StepState.RESOLVED_MANUALLY})
"""A parent in one of these no longer holds its children back."""

STEP_FINAL = SATISFYING | {StepState.CANCELLED}
TASK_FINAL = frozenset({TaskState.COMPLETE, TaskState.CANCELLED, TaskState.RESOLVED_MANUALLY})
TASK_SETTLED = TASK_FINAL | {TaskState.ERROR}
"""Nothing can run by itself any more."""

ACTIVE = frozenset(
    {
        StepState.READY,
        StepState.ENQUEUED,
        StepState.IN_PROGRESS,
        StepState.WAITING_FOR_RETRY,
        StepState.WAITING,
    }
)
"""Counted in `tasks.steps_active`: the engine will move these without anybody's help."""

OPEN = frozenset(StepState) - STEP_FINAL
"""Counted in `tasks.steps_open`."""


def _fan(sources: str, event: str, targets: str, by: str) -> tuple[Move, ...]:
    return tuple(Move(source, event, target, by) for source in sources.split() for target in targets.split())


_UNFINISHED = " ".join(sorted(OPEN))

STEP_MOVES: tuple[Move, ...] = (
    *_fan("pending", "parents_satisfied", "enqueued ready", "submit, finish"),
    *_fan("ready", "dispatch", "enqueued", "dispatch loop"),
    *_fan("enqueued", "claim", "in_progress", "worker"),
    *_fan("enqueued", "hold", "ready", "worker"),
    *_fan("enqueued", "park", "error", "coordinator"),
    *_fan("in_progress", "complete", "complete", "worker"),
    *_fan("in_progress", "retry_later", "waiting_for_retry", "worker, coordinator"),
    *_fan("in_progress", "fail", "error", "worker, coordinator"),
    *_fan("in_progress", "release", "enqueued ready", "worker"),
    *_fan("in_progress", "lose", "enqueued ready error", "coordinator"),
    *_fan("ready enqueued", "miss_start", "error", "coordinator"),
    *_fan("ready enqueued in_progress waiting_for_retry waiting", "expire", "error", "coordinator"),
    *_fan("waiting_for_retry waiting", "due", "enqueued ready", "coordinator"),
    *_fan("pending ready enqueued waiting_for_retry waiting", "park_by_hand", "error", "operator"),
    *_fan("error", "retry", "enqueued ready pending", "operator"),
    *_fan("pending ready enqueued waiting_for_retry waiting error", "skip", "skipped", "operator"),
    *_fan(_UNFINISHED, "resolve", "resolved_manually", "operator"),
    *_fan(_UNFINISHED, "complete_by_hand", "complete", "operator"),
    *_fan(_UNFINISHED, "cancel", "cancelled", "operator"),
)

TASK_MOVES: tuple[Move, ...] = (
    *_fan("pending", "start", "in_progress", "coordinator"),
    *_fan("in_progress", "pause", "paused", "operator"),
    *_fan("paused", "resume", "in_progress", "operator"),
    *_fan("in_progress paused error", "settle", "complete", "worker, operator"),
    *_fan("in_progress", "settle", "error", "worker, coordinator"),
    *_fan("error", "revive", "in_progress", "operator"),
    *_fan("pending in_progress paused error", "cancel", "cancelled", "operator"),
    *_fan("in_progress paused error", "resolve", "resolved_manually", "operator"),
)


def machine(moves: tuple[Move, ...], initial: str) -> Machine:
    """A `transitions.Machine` over one of the tables: what can follow what, for tests and tools."""
    states = sorted({move.source for move in moves} | {move.target for move in moves})
    built = Machine(model=None, states=states, initial=initial, auto_transitions=False)
    for move in moves:
        built.add_transition(move.event, move.source, move.target)
    return built


def allowed(moves: tuple[Move, ...], event: str) -> tuple[str, ...]:
    """The states from which `event` may happen, in table order."""
    return tuple(dict.fromkeys(move.source for move in moves if move.event == event))
