"""Lists, filters and pages for the CLI, the API and the client. Each is one statement that reads only.

They are planned anew at each call: a plan kept from when the tables were small would read all of history.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import kwargs_row

from tasker.db.functions import not_unicode, translate
from tasker.domain.errors import StepNotFound, TaskNotFound, TemplateNotFound, ValueRefused
from tasker.domain.records import (
    AttemptRecord,
    Page,
    StepRecord,
    StoredTemplate,
    TaskFilter,
    TaskRecord,
    TemplateRecord,
    WorkerRecord,
)
from tasker.domain.states import TaskState
from tasker.domain.wording import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasker.db.functions import Connection
    from tasker.domain.version import Reference

Row = TypeVar("Row")

EVERY_TASK = TaskFilter()
PAGE = 50
MOST_DIGITS = 10
"""Of the ordinal of a step."""

_TASKS: LiteralString = """
    select t.id, t.namespace, t.name, tp.version, t.state, t.priority, t.context, t.tags, t.initiator,
        t.source_system, t.reason, t.correlation_id, t.parent_correlation_id, t.idempotency_key,
        t.requested_at, t.created_at, t.run_after, t.deadline_at, t.finished_at,
        t.steps_total, t.steps_open, t.steps_active, t.steps_failed,
        (select at from tasker.transitions
         where task_id = t.id and step_id is null and to_state = 'in_progress'
         order by seq limit 1) as started_at
    from tasker.tasks t
    join tasker.templates tp on tp.id = t.template_id
"""
_FITS: Mapping[str, LiteralString] = {
    "state": "t.state = %(state)s",
    "in_namespace": "t.namespace = %(in_namespace)s",
    "tag": "%(tag)s = any (t.tags)",
    "since": "t.created_at >= %(since)s",
    "namespace": "t.namespace = %(namespace)s",
    "name": "t.name = %(name)s",
    "version": "tp.version = %(version)s",
}
_STEPS: LiteralString = """
    select s.id, s.task_id, s.ordinal, s.name, s.state, ts.handler, s.queue, s.priority, s.attempt,
        s.failures, ts.max_attempts, s.losses, ts.timeout_ms, s.run_after, s.ready_at, s.enqueued_at,
        s.changed_at, s.worker_id, a.started_at, a.finished_at, coalesce(l.error, a.error) as error
    from tasker.steps s
    join tasker.template_steps ts on ts.template_id = s.template_id and ts.ordinal = s.ordinal
    left join tasker.step_attempts a on a.step_id = s.id and a.attempt = s.attempt
    left join tasker.dead_letters l on l.step_id = s.id and l.closed_at is null
"""
_PAGE_OF_STEPS: LiteralString = """
    and s.name = any (array(
        select name
        from tasker.template_steps
        where template_id = (select template_id from tasker.tasks where id = %(task)s) and ordinal > %(after)s
        order by ordinal
        limit %(limit)s))
"""
_TEMPLATES: LiteralString = """
    select id, namespace, name, version, digest, steps_total, roots_total, created_at, retired_at
    from tasker.templates
"""


def get_task(connection: Connection, task: UUID) -> TaskRecord:
    """A task by its id. Raises TaskNotFound."""
    for found in fetch(connection, TaskRecord, _TASKS + "where t.id = %(task)s", {"task": task}):
        return found
    raise _no_task(task)


def list_tasks(
    connection: Connection, which: TaskFilter = EVERY_TASK, *, limit: int = PAGE, cursor: str | None = None
) -> Page[TaskRecord]:
    """Tasks, newest first. New tasks do not shift the pages that follow a cursor.

    Raises ValueRefused for a cursor that is none.
    """
    given: dict[str, Any] = {
        "state": which.state,
        "in_namespace": which.namespace,
        "tag": which.tag,
        "since": which.since,
        **(which.template._asdict() if which.template else {}),
    }
    conditions = [_FITS[name] for name, value in given.items() if value is not None]
    if which.state == TaskState.ERROR:
        conditions.append("t.steps_failed > 0")  # implied, and what there is an index for
    if cursor is not None:
        conditions.append("t.created_at <= %(at)s and (t.created_at, t.id) < (%(at)s, %(id)s)")
        given |= _Position.read(cursor)._asdict()
    where = "where " + " and ".join(conditions) if conditions else ""
    query = _TASKS + where + " order by t.created_at desc, t.id desc limit %(limit)s"
    given["limit"] = limit + 1
    found = fetch(connection, TaskRecord, query, given)
    more = len(found) > limit
    items = found[:limit]
    return Page(items, _Position(items[-1].created_at, items[-1].id).text() if more else None)


def list_steps(
    connection: Connection, task: UUID, *, limit: int | None = None, after: int = -1
) -> list[StepRecord]:
    """Steps of a task, in the template's order: all, or `limit` of them behind the ordinal `after`.

    However many the task has, so many and no more are read. Raises TaskNotFound.
    """
    query = _STEPS + "where s.task_id = %(task)s"
    if limit is not None:
        query += _PAGE_OF_STEPS
    given = {"task": task, "limit": limit, "after": after}
    steps = fetch(connection, StepRecord, query + " order by s.ordinal", given)
    if not steps and after < 0:
        raise _no_task(task)
    return steps


def step_page(
    connection: Connection, task: UUID, *, limit: int, cursor: str | None = None
) -> Page[StepRecord]:
    """So many steps of a task, in the template's order. Raises TaskNotFound, ValueRefused."""
    after = -1 if cursor is None else _ordinal(cursor)
    found = list_steps(connection, task, limit=limit + 1, after=after)
    items = found[:limit]
    return Page(items, str(items[-1].ordinal) if len(found) > limit else None)


def get_step(connection: Connection, task: UUID, name: str) -> StepRecord:
    """A step by its task and name. Raises TaskNotFound, StepNotFound."""
    query = _STEPS + "where s.task_id = %(task)s and s.name = %(name)s"
    for found in fetch(connection, StepRecord, query, {"task": task, "name": name}):
        return found
    known = [step.name for step in list_steps(connection, task)]
    raise StepNotFound(
        f'task {task} has no step "{name}"{did_you_mean(name, known)}; see `tasker step list {task}`'
    )


def failed_steps(connection: Connection, task: UUID) -> list[int]:
    """The ids of the steps of a task that are in error, in the template's order."""
    query = _STEPS + "where s.task_id = %(task)s and s.state = 'error' order by s.ordinal"
    return [step.id for step in fetch(connection, StepRecord, query, {"task": task})]


def attempts_made(connection: Connection, steps: Sequence[int]) -> dict[int, int]:
    """The number of the last attempt of each step, by id."""
    query = _STEPS + "where s.id = any (%(steps)s)"
    return {step.id: step.attempt for step in fetch(connection, StepRecord, query, {"steps": list(steps)})}


def retried_after(connection: Connection, attempts: Mapping[int, int]) -> set[int]:
    """Which of these steps somebody has retried after the attempt given for each."""
    query: LiteralString = """
        select s.id
        from unnest(%(steps)s::bigint[], %(attempts)s::integer[]) as asked (id, attempt)
        join tasker.steps s on s.id = asked.id
        where exists (
            select 1
            from tasker.transitions
            where task_id = s.task_id and step_id = s.id and from_state = 'error' and attempt = asked.attempt
              and to_state in ('pending', 'ready', 'enqueued'))
    """
    given = {"steps": list(attempts), "attempts": list(attempts.values())}
    return {row.id for row in fetch(connection, _StepId, query, given)}


def list_attempts(connection: Connection, step_id: int) -> list[AttemptRecord]:
    """The attempts of a step, first to last."""
    query: LiteralString = """
        select a.attempt, a.worker_id, w.host, w.pid, a.claimed_at, a.started_at, a.finished_at, a.outcome,
            a.result, a.error, a.late
        from tasker.step_attempts a
        left join tasker.workers w on w.id = a.worker_id
        where a.step_id = %(step)s
        order by a.attempt
    """
    return fetch(connection, AttemptRecord, query, {"step": step_id})


def list_results(connection: Connection, task: UUID, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Results by step of a task's complete steps, or of those named; a step without one is absent."""
    query: LiteralString = """
        select s.name, a.result
        from tasker.steps s
        join tasker.step_attempts a on a.step_id = s.id and a.attempt = s.attempt
        where s.task_id = %(task)s and s.state = 'complete'
    """
    if names is not None:
        query += " and s.name = any (%(names)s)"
    rows = fetch(
        connection, _Result, query + " order by s.ordinal", {"task": task, "names": names and list(names)}
    )
    return {row.name: row.result for row in rows}


def task_graph(connection: Connection, task: UUID) -> dict[str, tuple[str, ...]]:
    """The parents of each step of a task, by name, in the template's order. Raises TaskNotFound."""
    query: LiteralString = """
        select s.name, array(
            select p.name
            from tasker.step_edges e
            join tasker.steps p on p.id = e.parent_id
            where e.child_id = s.id
            order by p.ordinal) as parents
        from tasker.steps s
        where s.task_id = %(task)s
        order by s.ordinal
    """
    rows = fetch(connection, _Node, query, {"task": task})
    if not rows:
        raise _no_task(task)
    return {row.name: tuple(row.parents) for row in rows}


def list_templates(
    connection: Connection, *, namespace: str | None = None, name: str | None = None, retired: bool = False
) -> list[TemplateRecord]:
    """Stored versions by name, the newest of each first; with `retired` also those that start no tasks."""
    query = _TEMPLATES + "where true"
    if namespace is not None:
        query += " and namespace = %(namespace)s"
    if name is not None:
        query += " and name = %(name)s"
    if not retired:
        query += " and retired_at is null"
    query += " order by namespace, name, version_key desc"
    return fetch(connection, TemplateRecord, query, {"namespace": namespace, "name": name})


def get_template(connection: Connection, reference: Reference) -> StoredTemplate:
    """A stored template: the version named, also a retired one, else the newest active.

    Raises TemplateNotFound.
    """
    query: LiteralString = """
        select id, namespace, name, version, digest, steps_total, roots_total, created_at, retired_at,
            definition
        from tasker.templates
        where namespace = %(namespace)s and name = %(name)s
    """
    if reference.version is None:
        query += " and retired_at is null order by version_key desc limit 1"
    else:
        query += " and version = %(version)s"
    for found in fetch(connection, StoredTemplate, query, reference._asdict()):
        return found
    pinned = reference.version is not None
    known = {
        f"{one.full_name}@{one.version}" if pinned else one.full_name
        for one in list_templates(connection, retired=pinned)
    }
    raise TemplateNotFound(
        f"no template {reference}{did_you_mean(str(reference), sorted(known))}; see `tasker template list`, "
        "or register it with `tasker -A MODULE template register`"
    )


def get_context_schema(connection: Connection, reference: Reference) -> tuple[dict[str, Any], str] | None:
    """The schema that contexts of a stored version must fit, and its digest; None for none."""
    query: LiteralString = """
        select definition -> 'context_schema' as schema, schema_digest as digest
        from tasker.templates
        where namespace = %(namespace)s and name = %(name)s and version = %(version)s
          and schema_digest is not null
    """
    for found in fetch(connection, _Schema, query, reference._asdict()):
        return found.schema, found.digest
    return None


def list_workers(connection: Connection, *, stopped: bool = False, limit: int = 1000) -> list[WorkerRecord]:
    """Processes, newest first: the live ones, with `stopped` the others too."""
    query: LiteralString = """
        select id, parent_id, kind, host, pid, queues, handlers, free, started_at, beat_at, stopped_at,
            stopped_because
        from tasker.workers
    """
    if not stopped:
        query += " where stopped_at is null"
    return fetch(connection, WorkerRecord, query + " order by id desc limit %(limit)s", {"limit": limit})


def count_running(connection: Connection, host: str, pid: int) -> int:
    """How many attempts are open under a live main process and its children."""
    row = connection.execute(
        """
        select count(*)
        from tasker.workers main
        join tasker.workers own on own.id = main.id or own.parent_id = main.id
        join tasker.step_attempts a on a.worker_id = own.id and a.finished_at is null
        where main.host = %s and main.pid = %s and main.parent_id is null and main.stopped_at is null
        """,
        [host, pid],
        prepare=False,
    ).fetchone()
    return int(row[0]) if row else 0


def fetch(
    connection: Connection,
    make: Callable[..., Row],
    query: LiteralString,
    given: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The rows of a query, each made by `make` from its columns as keywords. Raises SchemaBehind."""
    try:
        with connection.cursor(row_factory=kwargs_row(make)) as cursor:
            return cursor.execute(query, given, prepare=False).fetchall()
    except psycopg.Error as error:
        translated = translate(error)
        if translated is None:
            raise
        raise translated from error
    except UnicodeEncodeError as error:
        raise not_unicode(error) from None


class _Result(NamedTuple):
    name: str
    result: Any


class _StepId(NamedTuple):
    id: int


class _Schema(NamedTuple):
    schema: dict[str, Any]
    digest: str


class _Node(NamedTuple):
    name: str
    parents: list[str]


class _Position(NamedTuple):
    """Where a page of tasks ended."""

    at: datetime
    id: UUID

    def text(self) -> str:
        return base64.urlsafe_b64encode(f"{self.at.isoformat()} {self.id}".encode()).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str) -> _Position:
        try:
            at, _, task = base64.urlsafe_b64decode(cursor + "==").decode().partition(" ")
            return cls(datetime.fromisoformat(at), UUID(task))
        except (ValueError, binascii.Error):
            raise _no_cursor(cursor) from None


def _ordinal(cursor: str) -> int:
    if cursor.isdecimal() and len(cursor) < MOST_DIGITS:
        return int(cursor)
    raise _no_cursor(cursor)


def _no_cursor(cursor: str) -> ValueRefused:
    return ValueRefused(f'"{cursor}" is not the cursor of a list; give back `next_cursor` as it was, or none')


def _no_task(task: UUID) -> TaskNotFound:
    return TaskNotFound(f"no task {task}; see `tasker task list`")
