"""What the database says about tasks, steps and the processes around them, as values.

Field names are those of the columns; times carry their offset. Nothing here is written back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from tasker.domain.version import Reference

Item = TypeVar("Item")


class Page(NamedTuple, Generic[Item]):
    """Part of a list. `next_cursor` asks for the part after it; None at the end."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list: those that all given fields fit. `since` is compared with `created_at`."""

    state: str | None = None
    template: Reference | None = None
    namespace: str | None = None
    tag: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task. `started_at` is when it left `pending`, `run_after` why it has not yet.

    `deadline_at` is null once it has passed.
    """

    id: UUID
    namespace: str
    name: str
    version: str
    state: str
    priority: int
    context: dict[str, Any]
    tags: list[str]
    initiator: str | None
    source_system: str | None
    reason: str | None
    correlation_id: UUID
    parent_correlation_id: UUID | None
    idempotency_key: str | None
    requested_at: datetime | None
    created_at: datetime
    run_after: datetime | None
    deadline_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    steps_total: int
    steps_open: int
    steps_active: int
    steps_failed: int

    @property
    def template(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step and its last attempt, whose times and `error` ({"type", "message", …}) are here.

    Of a step in error, the error is that which ended it.
    `attempt` counts claims, `failures` those that failed; `changed_at` is when it entered its state.
    """

    id: int
    task_id: UUID
    ordinal: int
    name: str
    state: str
    handler: str
    queue: str
    priority: int
    attempt: int
    failures: int
    max_attempts: int
    losses: int
    timeout_ms: int
    run_after: datetime | None
    ready_at: datetime | None
    enqueued_at: datetime | None
    changed_at: datetime
    worker_id: int | None
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One claim of a step. `outcome` is None while it runs; `late` is what its worker reported too late."""

    attempt: int
    worker_id: int | None
    host: str | None
    pid: int | None
    claimed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    result: Any
    error: dict[str, Any] | None
    late: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A step that ended in error: open until it leaves that state, then closed by whoever moved it.

    `fingerprint` is equal for errors that are alike. `step` and `step_id` are None for a task as a whole.
    """

    id: int
    task_id: UUID
    step_id: int | None
    step: str | None
    reason: str
    fingerprint: str
    error: dict[str, Any]
    snapshot: dict[str, Any]
    created_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    closed_because: str | None


@dataclass(frozen=True)
class TemplateRecord:
    """A stored version of a template."""

    id: int
    namespace: str
    name: str
    version: str
    digest: str
    steps_total: int
    roots_total: int
    created_at: datetime
    retired_at: datetime | None

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class StoredTemplate(TemplateRecord):
    """A stored version with its definition, which `TemplateDefinition.from_json` reads."""

    definition: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A process that executes or coordinates: a main, a child of one, or a coordinator."""

    id: int
    parent_id: int | None
    kind: str
    host: str
    pid: int
    queues: list[str]
    handlers: list[str]
    free: int
    started_at: datetime
    beat_at: datetime
    stopped_at: datetime | None
    stopped_because: str | None


class BlockingParent(NamedTuple):
    """A parent that is not satisfied."""

    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """A row of `step_readiness`; the head of its SQL file explains the fields and lists the reasons."""

    task_id: UUID
    step_id: int
    name: str
    state: str
    handler: str
    queue: str
    parents_total: int
    parents_satisfied: int
    blocking_parents: list[BlockingParent]
    attempt: int
    failures: int
    max_attempts: int
    republished: int
    error_type: str | None
    error_message: str | None
    failed_because: str | None
    letter_id: int | None
    fingerprint: str | None
    dependencies_satisfied: bool
    retry_eligible: bool
    ready_for_execution: bool
    next_retry_at: datetime | None
    due_at: datetime | None
    since: datetime
    worker_id: int | None
    worker_host: str | None
    worker_pid: int | None
    timeout_ms: int
    blocking_reasons: list[str]
    at: datetime


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """A row of `task_execution_context`; the head of its SQL file lists the values."""

    task_id: UUID
    state: str
    execution_status: str
    recommended_action: str
    health_status: str
    completion_percentage: float
    steps_total: int
    steps_by_state: dict[str, int]
    next_due_at: datetime | None


class Hold(NamedTuple):
    """That an operator has paused a task or a queue: since when, who, why."""

    since: datetime
    by: str | None
    because: str | None


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue. `held` are its ready steps, save those of paused tasks; `published` have a message out.

    `running` counts attempts that have not ended, `workers` the live mains that serve it; `heard_at` is when
    one of them last reported to have received a message.
    """

    name: str
    paused_at: datetime | None
    paused_by: str | None
    paused_because: str | None
    gate_open: bool
    held: int
    published: int
    running: int
    workers: int
    heard_at: datetime | None

    @property
    def hold(self) -> Hold | None:
        """Who has paused it."""
        if self.paused_at is None:
            return None
        return Hold(self.paused_at, self.paused_by, self.paused_because)


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """How a queue stands; ages are None where there is nothing to be old."""

    name: str
    paused: bool
    gate_open: bool
    workers: int
    enqueued: int
    oldest_enqueued_seconds: float | None
    ready: int
    oldest_ready_seconds: float | None


@dataclass(frozen=True, slots=True)
class DueCounts:
    """Steps with a due time: still to come, and come without having moved, by up to `overdue_seconds`."""

    later: int
    overdue: int
    overdue_seconds: float | None
    next_due_at: str | None


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """Live processes by kind, and the work that stopped ones still hold."""

    live: int
    children: int
    coordinators: int
    stopped_with_open_attempts: int
    attempts_of_stopped: int


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """Seconds since the coordinator's loops ran, anywhere; None for never."""

    seconds_since_last: float | None
    seconds_since: dict[str, float]


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """What `system_health_counts` says; the head of its SQL file tells what is approximate."""

    at: str
    tasks: dict[str, int]
    steps: dict[str, int]
    queues: list[QueueHealth]
    due: DueCounts
    workers: WorkerCounts
    loops: LoopTimes


@dataclass(frozen=True, slots=True)
class UnservedSteps:
    """Steps that may run but that no live worker would take; `queue_served` False: for want of any worker."""

    queue: str
    handler: str
    steps: int
    oldest_at: datetime
    queue_served: bool


class Violation(NamedTuple):
    """Something in the database that must not be; the SQL files name the invariants."""

    invariant: str
    entity: str
    detail: str
