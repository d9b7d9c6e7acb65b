"""What the functions of SQL say that explain: readiness, execution context, health, invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from tasker.db.queries import fetch
from tasker.domain.records import (
    BlockingParent,
    DueCounts,
    ExecutionContext,
    LoopTimes,
    QueueHealth,
    Readiness,
    SystemHealth,
    UnservedSteps,
    Violation,
    WorkerCounts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from tasker.db.functions import Connection


def step_readiness(connection: Connection, tasks: Sequence[UUID]) -> list[Readiness]:
    """What every step of the tasks waits for, by task and in the template's order."""
    return fetch(
        connection, _readiness, "select * from tasker.step_readiness(%(tasks)s)", {"tasks": list(tasks)}
    )


def task_execution_contexts(connection: Connection, tasks: Sequence[UUID]) -> dict[UUID, ExecutionContext]:
    """What the tasks are doing, by id; unknown ids are absent."""
    rows = fetch(
        connection,
        _execution_context,
        "select * from tasker.task_execution_context(%(tasks)s)",
        {"tasks": list(tasks)},
    )
    return {row.task_id: row for row in rows}


def dependency_levels(connection: Connection, task: UUID) -> dict[str, int | None]:
    """Each step's longest way from a root, by name; None for steps on a cycle and behind one."""
    rows = fetch(
        connection, _Level, "select name, level from tasker.dependency_levels(%(task)s)", {"task": task}
    )
    return {row.name: row.level for row in rows}


def transitive_dependencies(connection: Connection, task: UUID, step: str) -> dict[str, int]:
    """All steps that a step waits for, by name, with the shortest distance."""
    rows = fetch(
        connection,
        _Ancestor,
        "select name, distance from tasker.transitive_dependencies(%(task)s, %(step)s)",
        {"task": task, "step": step},
    )
    return {row.name: row.distance for row in rows}


def system_health(connection: Connection) -> SystemHealth:
    """Tasks, steps, queues, workers and loops at a glance."""
    (row,) = fetch(connection, _Document, "select tasker.system_health_counts() as document")
    found = row.document
    return SystemHealth(
        at=found["at"],
        tasks=found["tasks"],
        steps=found["steps"],
        queues=[QueueHealth(**queue) for queue in found["queues"]],
        due=DueCounts(**found["due"]),
        workers=WorkerCounts(**found["workers"]),
        loops=LoopTimes(**found["loops"]),
    )


def unserved_steps(connection: Connection) -> list[UnservedSteps]:
    """Steps that may run but that no live worker would take, by queue and handler."""
    return fetch(connection, UnservedSteps, "select * from tasker.unserved_steps()")


def invariant_violations(
    connection: Connection, *, hours: float | None = None, within_seconds: float | None = None
) -> list[Violation]:
    """Everything in the database that must not be; [] when it is sound.

    With `hours`, tasks that finished longer ago and rows that belong to no task are left out. Raises
    TimeoutError when it takes longer than `within_seconds`.
    """
    try:
        with connection.transaction():
            if within_seconds is not None:
                limit = str(round(within_seconds * 1000))
                connection.execute("select set_config('statement_timeout', %s, true)", [limit])
            return fetch(
                connection,
                Violation,
                "select * from tasker.invariant_violations(tasker.clock() - %(age)s * interval '1 hour')",
                {"age": hours},
            )
    except psycopg.errors.QueryCanceled as error:
        raise TimeoutError(str(error)) from error


def seconds_since_coordinator(connection: Connection) -> float | None:
    """How long ago any process last ran a coordinator loop; None for never."""
    (row,) = fetch(
        connection,
        _Seconds,
        "select extract(epoch from tasker.clock() - max(ran_at))::float8 as seconds"
        " from tasker.coordinator_loops",
    )
    return row.seconds


def overdue_attempts(connection: Connection, seconds: float) -> int:
    """How many attempts have run so much longer than their steps may, under workers that look alive."""
    query = "select count(*) from tasker.overdue_attempts(make_interval(secs => %s))"
    ((count,),) = connection.execute(query, [seconds]).fetchall()
    return int(count)


def abandoned_attempts(connection: Connection) -> AbandonedAttempts:
    """What workers still hold that were stopped, or whose main was; the coordinator takes it back."""
    (row,) = fetch(
        connection,
        AbandonedAttempts,
        """
        select count(*) as attempts,
            coalesce(extract(epoch from tasker.clock() - min(
                coalesce(own.stopped_at, main.stopped_at))), 0)::float8 as seconds
        from tasker.step_attempts a
        join tasker.workers own on own.id = a.worker_id
        left join tasker.workers main on main.id = own.parent_id
        where a.finished_at is null and (own.stopped_at is not null or main.stopped_at is not null)
        """,
    )
    return row


def worker_places(connection: Connection, queues: Sequence[str]) -> list[WorkerPlaces]:
    """What each live worker of these queues can take and what it runs, the longest running first.

    Of a claim only the first unfinished step is listed: the others wait behind it, in the same place.
    """
    return fetch(
        connection,
        WorkerPlaces,
        """
        with running as (
            select distinct on (a.worker_id, a.claim_id) coalesce(own.parent_id, own.id) as main,
                s.task_id || '/' || s.name as step,
                extract(epoch from tasker.clock() - a.claimed_at)::float8 as seconds
            from tasker.step_attempts a
            join tasker.workers own on own.id = a.worker_id and own.stopped_at is null
            join tasker.steps s on s.id = a.step_id
            where a.finished_at is null
            order by a.worker_id, a.claim_id, a.claimed_at, a.step_id
        )
        select m.queues, m.free = 0 and m.beats > 0 as full,
            (select count(*) from tasker.workers where parent_id = m.id and stopped_at is null) as children,
            array(select step from running where main = m.id order by seconds desc, step) as steps,
            array(select seconds from running where main = m.id order by seconds desc, step) as seconds
        from tasker.workers m
        where m.stopped_at is null and m.kind = 'main' and m.queues && %(queues)s::text[]
        """,
        {"queues": list(queues)},
    )


def clock(connection: Connection) -> datetime:
    """The database's time."""
    (row,) = fetch(connection, _Instant, "select tasker.clock() as at")
    return row.at


def is_test_database(connection: Connection) -> bool:
    """Whether somebody has marked this database as one of tests, in which faults may be injected."""
    (row,) = fetch(
        connection, _Mark, "select obj_description(to_regnamespace('tasker'), 'pg_namespace') as mark"
    )
    return row.mark == "test database"


def valid_indexes(connection: Connection) -> set[str]:
    """The indexes of the schema's tables that queries can use."""
    rows = fetch(
        connection,
        _Name,
        "select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where c.relnamespace = 'tasker'::regnamespace and i.indisvalid",
    )
    return {row.name for row in rows}


def server(connection: Connection) -> Server:
    """What PostgreSQL is set to in a session like ours, and how full it is."""
    (row,) = fetch(
        connection,
        Server,
        """
        select current_setting('synchronous_commit') as synchronous_commit,
            current_setting('default_transaction_isolation') as default_transaction_isolation,
            (select setting::int from pg_settings where name = 'statement_timeout') / 1000.0
                as statement_timeout_seconds,
            -- unlike pg_stat_activity it shows everybody's to every role
            (select sum(numbackends)::int from pg_stat_database) as connections,
            current_setting('max_connections')::int
                - current_setting('superuser_reserved_connections')::int as max_connections
        """,
    )
    return row


class Server(NamedTuple):
    """Settings that matter to us; the connections are those of everybody, superusers' own aside."""

    synchronous_commit: str
    default_transaction_isolation: str
    statement_timeout_seconds: float
    connections: int
    max_connections: int


class WorkerPlaces(NamedTuple):
    """A live worker: whether it said at its last beat that it can take nothing, and what it runs.

    `children` is 0 where threads of one process run the steps. A handler whose attempt was ended, by a cancel
    for instance, still has its place and is not among `steps`.
    """

    queues: list[str]
    full: bool
    children: int
    steps: list[str]
    seconds: list[float]


class AbandonedAttempts(NamedTuple):
    """Open attempts under stopped workers, and the seconds since the first of these stopped; 0 for none."""

    attempts: int
    seconds: float


class _Level(NamedTuple):
    name: str
    level: int | None


class _Ancestor(NamedTuple):
    name: str
    distance: int


class _Document(NamedTuple):
    document: dict[str, Any]


class _Name(NamedTuple):
    name: str


class _Seconds(NamedTuple):
    seconds: float | None


class _Mark(NamedTuple):
    mark: str | None


class _Instant(NamedTuple):
    at: datetime


def _readiness(blocking_parents: list[dict[str, str]], **columns: Any) -> Readiness:
    return Readiness(blocking_parents=[BlockingParent(**parent) for parent in blocking_parents], **columns)


def _execution_context(completion_percentage: Decimal, **columns: Any) -> ExecutionContext:
    return ExecutionContext(completion_percentage=float(completion_percentage), **columns)
