"""What operators hold: paused tasks and queues, by whom and since when, and what goes on all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString, NamedTuple

from tasker.db.queries import fetch
from tasker.domain.errors import QueueNotFound
from tasker.domain.records import Hold, QueueRecord
from tasker.domain.wording import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from tasker.db.functions import Connection

_QUEUES: LiteralString = """
    select q.name, q.paused_at, q.paused_by, q.paused_because, q.gate_open, coalesce(h.steps, 0) as held,
        coalesce(p.steps, 0) as published, coalesce(r.steps, 0) as running, w.mains as workers, q.heard_at
    from tasker.queues q
    left join (
        select queue, count(*) as steps from tasker.steps where ready_at is not null group by queue
    ) h on h.queue = q.name
    left join (
        select queue, count(*) as steps from tasker.steps where enqueued_at is not null group by queue
    ) p on p.queue = q.name
    left join (
        select s.queue, count(*) as steps
        from tasker.step_attempts a
        join tasker.steps s on s.id = a.step_id
        where a.finished_at is null
        group by s.queue
    ) r on r.queue = q.name
    cross join lateral (
        select count(*) as mains
        from tasker.workers
        where stopped_at is null and kind = 'main' and q.name = any (queues)
    ) w
"""


def list_queues(connection: Connection) -> list[QueueRecord]:
    """Every queue that a template or a worker has named, by name."""
    return fetch(connection, QueueRecord, _QUEUES + "order by q.name")


def get_queue(connection: Connection, name: str) -> QueueRecord:
    """A queue by its name. Raises QueueNotFound."""
    for found in fetch(connection, QueueRecord, _QUEUES + "where q.name = %(name)s", {"name": name}):
        return found
    known = [queue.name for queue in list_queues(connection)]
    raise QueueNotFound(f'no queue "{name}"{did_you_mean(name, known)}; see `tasker queue list`')


def running_steps(connection: Connection, queue: str) -> int:
    """How many attempts of steps of the queue have not ended."""
    query: LiteralString = """
        select count(*) as steps
        from tasker.step_attempts a
        join tasker.steps s on s.id = a.step_id
        where a.finished_at is null and s.queue = %(queue)s
    """
    (row,) = fetch(connection, _Count, query, {"queue": queue})
    return row.steps


def held_steps(connection: Connection, queues: Sequence[str]) -> dict[str, int]:
    """How many steps of these queues may run and wait to be published; queues without any are absent."""
    query: LiteralString = """
        select queue as name, count(*) as steps
        from tasker.steps
        where queue = any (%(queues)s) and ready_at is not null
        group by queue
    """
    return {row.name: row.steps for row in fetch(connection, _Line, query, {"queues": list(queues)})}


def calls_under_way(connection: Connection) -> set[str]:
    """The transactions, this one left out, that hold or have moved steps and have not ended yet.

    One of them may have read a queue before it was paused, and so may still start steps of it.
    """
    query: LiteralString = """
        select distinct virtualtransaction as name
        from pg_locks
        where relation = 'tasker.steps'::regclass and pid <> pg_backend_pid()
          and database = (select oid from pg_database where datname = current_database())
          and mode in ('RowShareLock', 'RowExclusiveLock')
    """
    return {row.name for row in fetch(connection, _Name, query)}


def task_hold(connection: Connection, task: UUID) -> Hold | None:
    """Who has paused a task, None when it is not paused."""
    query: LiteralString = """
        select tr.at as since, tr.actor as by, tr.reason as because
        from tasker.tasks t
        join tasker.transitions tr on tr.task_id = t.id and tr.step_id is null and tr.to_state = 'paused'
        where t.id = %(task)s and t.state = 'paused'
        order by tr.seq desc
        limit 1
    """
    for found in fetch(connection, Hold, query, {"task": task}):
        return found
    return None


def queue_holds(connection: Connection, names: Sequence[str]) -> dict[str, Hold]:
    """Who has paused queues, by name; those that are not paused are absent."""
    query: LiteralString = """
        select name, paused_at as since, paused_by as by, paused_because as because
        from tasker.queues
        where name = any (%(names)s) and paused_at is not null
    """
    rows = fetch(connection, _HeldQueue, query, {"names": list(names)})
    return {row.name: Hold(row.since, row.by, row.because) for row in rows}


class _Count(NamedTuple):
    steps: int


class _Line(NamedTuple):
    name: str
    steps: int


class _Name(NamedTuple):
    name: str


class _HeldQueue(NamedTuple):
    name: str
    since: datetime
    by: str | None
    because: str | None
