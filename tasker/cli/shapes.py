"""What `-o json` prints of tasks, steps and templates. Keys may be added; they never go or change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from tasker.cli.output import Streamed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from tasker.db.engine import Database
    from tasker.domain.records import (
        AttemptRecord,
        DeadLetterRecord,
        QueueRecord,
        StepRecord,
        StoredTemplate,
        TaskRecord,
        TemplateRecord,
    )


STEPS_AT_ONCE = 1000


class StepOfTaskJson(TypedDict):
    """A step as part of its task."""

    name: str
    state: str
    attempt: int
    result: Any
    error: dict[str, Any] | None


class TaskJson(TypedDict):
    """A task with its steps. `created`: whether the command that prints it has created it."""

    task_id: str
    template: str
    version: str
    state: str
    execution_status: str
    created: bool
    context: dict[str, Any]
    steps: list[StepOfTaskJson]
    started_at: str | None
    finished_at: str | None


class ListedTaskJson(TypedDict):
    """A task in a list."""

    task_id: str
    template: str
    version: str
    state: str
    steps_total: int
    steps_open: int
    steps_failed: int
    tags: list[str]
    created_at: str
    started_at: str | None
    finished_at: str | None


class TasksJson(TypedDict):
    """A page of tasks."""

    items: list[ListedTaskJson]
    next_cursor: str | None


class ListedStepJson(TypedDict):
    """A step in a list."""

    step: str
    name: str
    state: str
    handler: str
    queue: str
    attempt: int
    failures: int
    max_attempts: int
    started_at: str | None
    finished_at: str | None
    error: dict[str, Any] | None


class StepsJson(TypedDict):
    """The steps of a task."""

    items: list[ListedStepJson]
    next_cursor: str | None


class AttemptJson(TypedDict):
    """One claim of a step. `late`: what its worker reported when it had been given to another."""

    attempt: int
    outcome: str | None
    host: str | None
    pid: int | None
    claimed_at: str
    started_at: str | None
    finished_at: str | None
    result: Any
    error: dict[str, Any] | None
    late: dict[str, Any] | None


class DeadLetterJson(TypedDict):
    """A dead letter; `step` is null for a task as a whole, `closed_at` while it is open."""

    id: int
    task_id: str
    step: str | None
    reason: str
    fingerprint: str
    error: dict[str, Any]
    snapshot: dict[str, Any]
    created_at: str
    closed_at: str | None
    closed_by: str | None
    closed_because: str | None


class StepJson(TypedDict):
    """A step with its attempts. `dead_letter`: the open one of a step in error."""

    step: str
    task_id: str
    name: str
    state: str
    handler: str
    queue: str
    priority: int
    timeout_seconds: float
    attempt: int
    failures: int
    max_attempts: int
    losses: int
    run_after: str | None
    result: Any
    error: dict[str, Any] | None
    attempts: list[AttemptJson]
    dead_letter: DeadLetterJson | None


class ListedTemplateJson(TypedDict):
    """A version of a template in a list."""

    template: str
    version: str
    steps_total: int
    created_at: str
    retired_at: str | None


class TemplatesJson(TypedDict):
    """Templates."""

    items: list[ListedTemplateJson]
    next_cursor: str | None


class TemplateJson(TypedDict):
    """A version of a template with its definition, as it is stored."""

    template: str
    version: str
    digest: str
    created_at: str
    retired_at: str | None
    definition: dict[str, Any]


class NodeJson(TypedDict):
    """A step of a graph. `state` is null for a template."""

    name: str
    depends_on: list[str]
    state: str | None


class GraphJson(TypedDict):
    """The graph of a task, or of a template, where `task_id` is null."""

    task_id: str | None
    template: str
    version: str
    steps: list[NodeJson]


class ReasonJson(TypedDict):
    """Why a step has not finished; `step` is null for a sentence about several, or about the system."""

    step: str | None
    state: str | None
    codes: list[str]
    text: str


class WhyJson(TypedDict):
    """What the unfinished steps of a task wait for."""

    task_id: str
    state: str
    execution_status: str
    recommended_action: str
    reasons: list[ReasonJson]


class ParkedJson(TypedDict):
    """What a park did: the steps it took out."""

    task_id: str
    steps: list[str]


class TaskStateJson(TypedDict):
    """A task that was cancelled, paused or resumed, and its state now."""

    task_id: str
    state: str


class QueueJson(TypedDict):
    """A queue. `held` are its ready steps, save those of paused tasks; `published` have a message out.

    `gate_open` is false while so much is published that further steps wait for their turn.
    """

    queue: str
    paused_at: str | None
    paused_by: str | None
    reason: str | None
    gate_open: bool
    held: int
    published: int
    running: int
    workers: int
    last_heard_at: str | None


class QueuesJson(TypedDict):
    """Queues."""

    items: list[QueueJson]
    next_cursor: str | None


class RetriedJson(TypedDict):
    """What a retry did: the steps it gave another go."""

    task_id: str
    steps: list[str]


def task_json(database: Database, task_id: UUID, *, created: bool) -> TaskJson:
    """A task as of now; its steps are read while they are printed. Raises TaskNotFound."""
    from tasker.db import diagnosis, queries

    task = database.call(queries.get_task, task_id)
    status = database.call(diagnosis.task_execution_contexts, [task_id])[task_id].execution_status
    return TaskJson(
        task_id=str(task.id),
        template=task.template,
        version=task.version,
        state=task.state,
        execution_status=status,
        created=created,
        context=task.context,
        steps=Streamed(_steps(database, task_id)),
        started_at=_time(task.started_at),
        finished_at=_time(task.finished_at),
    )


def _steps(database: Database, task_id: UUID) -> Iterator[StepOfTaskJson]:
    from tasker.db import queries

    after = -1
    while steps := database.call(queries.list_steps, task_id, limit=STEPS_AT_ONCE, after=after):
        results = database.call(queries.list_results, task_id, [step.name for step in steps])
        for step in steps:
            yield StepOfTaskJson(
                name=step.name,
                state=step.state,
                attempt=step.attempt,
                result=results.get(step.name),
                error=step.error,
            )
        after = steps[-1].ordinal


def listed_task(task: TaskRecord) -> ListedTaskJson:
    """A task in a list."""
    return ListedTaskJson(
        task_id=str(task.id),
        template=task.template,
        version=task.version,
        state=task.state,
        steps_total=task.steps_total,
        steps_open=task.steps_open,
        steps_failed=task.steps_failed,
        tags=task.tags,
        created_at=task.created_at.isoformat(),
        started_at=_time(task.started_at),
        finished_at=_time(task.finished_at),
    )


def listed_step(step: StepRecord) -> ListedStepJson:
    """A step in a list."""
    return ListedStepJson(
        step=f"{step.task_id}/{step.name}",
        name=step.name,
        state=step.state,
        handler=step.handler,
        queue=step.queue,
        attempt=step.attempt,
        failures=step.failures,
        max_attempts=step.max_attempts,
        started_at=_time(step.started_at),
        finished_at=_time(step.finished_at),
        error=step.error,
    )


def dead_letter_json(letter: DeadLetterRecord) -> DeadLetterJson:
    """A dead letter."""
    return DeadLetterJson(
        id=letter.id,
        task_id=str(letter.task_id),
        step=letter.step,
        reason=letter.reason,
        fingerprint=letter.fingerprint,
        error=letter.error,
        snapshot=letter.snapshot,
        created_at=letter.created_at.isoformat(),
        closed_at=_time(letter.closed_at),
        closed_by=letter.closed_by,
        closed_because=letter.closed_because,
    )


def step_json(
    step: StepRecord, result: Any, attempts: list[AttemptRecord], letter: DeadLetterRecord | None
) -> StepJson:
    """A step with all its attempts."""
    return StepJson(
        step=f"{step.task_id}/{step.name}",
        task_id=str(step.task_id),
        name=step.name,
        state=step.state,
        handler=step.handler,
        queue=step.queue,
        priority=step.priority,
        timeout_seconds=step.timeout_ms / 1000,
        attempt=step.attempt,
        failures=step.failures,
        max_attempts=step.max_attempts,
        losses=step.losses,
        run_after=_time(step.run_after),
        result=result,
        error=step.error,
        attempts=[
            AttemptJson(
                attempt=each.attempt,
                outcome=each.outcome,
                host=each.host,
                pid=each.pid,
                claimed_at=each.claimed_at.isoformat(),
                started_at=_time(each.started_at),
                finished_at=_time(each.finished_at),
                result=each.result,
                error=each.error,
                late=each.late,
            )
            for each in attempts
        ],
        dead_letter=None if letter is None else dead_letter_json(letter),
    )


def queue_json(queue: QueueRecord) -> QueueJson:
    """A queue as of when it was read."""
    return QueueJson(
        queue=queue.name,
        paused_at=_time(queue.paused_at),
        paused_by=queue.paused_by,
        reason=queue.paused_because,
        gate_open=queue.gate_open,
        held=queue.held,
        published=queue.published,
        running=queue.running,
        workers=queue.workers,
        last_heard_at=_time(queue.heard_at),
    )


def listed_template(template: TemplateRecord) -> ListedTemplateJson:
    """A template in a list."""
    return ListedTemplateJson(
        template=template.full_name,
        version=template.version,
        steps_total=template.steps_total,
        created_at=template.created_at.isoformat(),
        retired_at=_time(template.retired_at),
    )


def template_json(template: StoredTemplate) -> TemplateJson:
    """A template with its definition."""
    return TemplateJson(
        template=template.full_name,
        version=template.version,
        digest=template.digest,
        created_at=template.created_at.isoformat(),
        retired_at=_time(template.retired_at),
        definition=template.definition,
    )


def _time(at: Any) -> str | None:
    return None if at is None else at.isoformat()
