"""The closed list of lifecycle events: which transition means which event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasker.domain.replies import Transition

TASK_EVENTS = {
    (None, "in_progress"): "task.created",
    (None, "pending"): "task.created",
    ("pending", "in_progress"): "task.started",
    ("in_progress", "paused"): "task.paused",
    ("paused", "in_progress"): "task.resumed",
    ("error", "in_progress"): "task.retried",
    ("*", "complete"): "task.completed",
    ("*", "error"): "task.failed",
    ("*", "cancelled"): "task.cancelled",
    ("*", "resolved_manually"): "task.resolved",
}
"""(from, to) of a task → event; `*` is any state."""

STEP_EVENTS = {
    ("in_progress", "enqueued"): "step.returned",
    ("in_progress", "ready"): "step.returned",
    ("error", "pending"): "step.unparked",
    ("*", "enqueued"): "step.enqueued",
    ("*", "ready"): "step.held",
    ("*", "waiting"): "step.waiting",
    ("*", "in_progress"): "step.started",
    ("*", "waiting_for_retry"): "step.retry_scheduled",
    ("*", "complete"): "step.completed",
    ("*", "error"): "step.failed",
    ("*", "skipped"): "step.skipped",
    ("*", "cancelled"): "step.cancelled",
    ("*", "resolved_manually"): "step.resolved",
}
"""(from, to) of a step → event."""

EVENT_NAMES = tuple(sorted({*TASK_EVENTS.values(), *STEP_EVENTS.values()}))


@dataclass(frozen=True, slots=True)
class Event:
    """One transition, told to the outside.

    `step` is None when the task itself moved; `at` is ISO 8601 by the database's clock; `seq` is the
    transition's place in the log.
    """

    name: str
    seq: int
    task_id: str
    template: str
    step: str | None
    from_state: str | None
    to_state: str
    attempt: int | None
    at: str
    actor: str | None
    reason: str | None


def event_of(move: Transition) -> Event:
    """The event that a transition means."""
    table = TASK_EVENTS if move["step_id"] is None else STEP_EVENTS
    name = table.get((move["from"], move["to"])) or table["*", move["to"]]
    return Event(
        name=name,
        seq=move["seq"],
        task_id=move["task_id"],
        template=move["template"],
        step=move["step"],
        from_state=move["from"],
        to_state=move["to"],
        attempt=move["attempt"],
        at=move["at"],
        actor=move["actor"],
        reason=move["reason"],
    )
