"""One Python function per SQL function of the hot path, recovery and operators.

Each takes a psycopg connection first, makes one round trip, and repeats as safely as the SQL it calls;
`sql/functions/NAME.sql` says what each does. SQLSTATEs become exceptions here and nowhere else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from tasker.domain import errors
from tasker.domain.replies import ClaimedStep, Claims, Finished, Moved, Submitted, SubmittedTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

Connection: TypeAlias = "psycopg.Connection[Any]"

_RAISES = {
    "TK001": errors.WorkerStopped,
    "TK002": errors.WrongIsolation,
    "TK003": errors.TemplateNotFound,
    "TK004": errors.IdempotencyConflict,
    "TK006": errors.TransactionEnded,
    "TK007": errors.AttemptEnded,
}
_SCHEMA_MISSING = {"3F000", "42883", "42P01"}
_BEYOND_LIMITS = "54"
"""SQLSTATEs of what is too long or too many for PostgreSQL; psycopg takes them for outages."""


def _call(connection: Connection, query: str, *arguments: Any) -> Any:
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:  # whatever the caller's connection makes
            return cursor.execute(query, arguments).fetchone()[0]  # type: ignore[index]
    except psycopg.Error as error:
        translated = translate(error)
        if translated is None:
            raise
        raise translated from None
    except UnicodeEncodeError as error:
        raise not_unicode(error) from None


def not_unicode(error: UnicodeEncodeError) -> errors.Rejected:
    """What stands for an argument that psycopg could not even send."""
    return errors.Rejected(f"an argument is not Unicode text: {error.object[:60]!r}")


def translate(error: psycopg.Error) -> errors.TaskerError | None:
    """The exception of ours that a database error stands for, or None if it is not one of ours."""
    state, diagnostic = error.sqlstate or "", error.diag
    if state in _RAISES:
        parts = (diagnostic.message_primary, diagnostic.message_hint)
        return _RAISES[state](". ".join(part for part in parts if part))
    if state == "TK005":
        stored = json.loads(diagnostic.message_detail or "null")
        return errors.TemplateConflict(diagnostic.message_primary or "", stored)
    if state == "TK008":
        told = json.loads(diagnostic.message_detail or "{}")
        return errors.ContextUnchecked(diagnostic.message_primary or "", **told)
    if state in _SCHEMA_MISSING and "tasker" in (diagnostic.message_primary or ""):
        return errors.SchemaBehind(
            f"the schema is missing or behind ({diagnostic.message_primary}); run `tasker db migrate`"
        )
    if isinstance(error, (psycopg.DataError, psycopg.IntegrityError)) or state.startswith(_BEYOND_LIMITS):
        return errors.Rejected(f"PostgreSQL refused the values: {diagnostic.message_primary or error}")
    return None


def register_template(
    connection: Connection, definition: str, digest: str, version_key: str, queue: str
) -> bool:
    """Store a template version; False if it was there. Raises TemplateConflict."""
    reply = _call(
        connection,
        "select tasker.register_template(%s, %s, %s, %s)",
        definition,
        digest,
        version_key,
        queue,
    )
    return bool(reply["created"])


def submit_tasks(connection: Connection, requests: str, *, joined: bool, moves: bool) -> Submitted:
    """Create tasks from a JSON array of requests.

    Raises TemplateNotFound, TemplateConflict, IdempotencyConflict, ContextUnchecked.
    """
    reply = _call(connection, "select tasker.submit_tasks(%s, %s, %s)", requests, joined, moves)
    tasks = [SubmittedTask(**task) for task in reply["tasks"]]
    return Submitted(tasks, reply["publish"], reply["at"], reply["moves"] or [])


def claim_steps(
    connection: Connection, ids: Sequence[int], worker: int, claim: UUID, *, moves: bool
) -> Claims:
    """Take steps for this worker; the reply holds those it won. Raises WorkerStopped."""
    reply = _call(connection, "select tasker.claim_steps(%s, %s, %s, %s)", list(ids), worker, claim, moves)
    return Claims(_claimed(reply["steps"], claim), reply["contexts"] or {}, reply["moves"] or [])


def finish_steps(
    connection: Connection,
    outcomes: str,
    worker: int,
    claim: UUID,
    keep: Mapping[str, object] | None,
    *,
    moves: bool,
) -> Finished:
    """Record outcomes (a JSON array) and keep what comes next. Raises WorkerStopped when `keep` is given."""
    reply = _call(
        connection,
        "select tasker.finish_steps(%s, %s, %s, %s, %s)",
        outcomes,
        worker,
        claim,
        json.dumps(keep) if keep else None,
        moves,
    )
    return Finished(
        _claimed(reply["kept"], claim), reply["refused"], reply["publish"], reply["at"], reply["moves"] or []
    )


def finish_transaction(connection: Connection, outcome: str, transaction: str, *, moves: bool) -> Finished:
    """Record the completion (a JSON object) of the step whose transaction this is.

    Raises AttemptEnded, TransactionEnded.
    """
    reply = _call(connection, "select tasker.finish_transaction(%s, %s, %s)", outcome, transaction, moves)
    return Finished([], [], reply["publish"], reply["at"], reply["moves"] or [])


def release_steps(connection: Connection, ids: Sequence[int], claim: UUID, *, moves: bool) -> Moved:
    """Give back steps of a claim that were not begun."""
    return _moved(_call(connection, "select tasker.release_steps(%s, %s, %s)", list(ids), claim, moves))


def due_steps(connection: Connection, limit: int, *, moves: bool) -> Moved:
    """Start retries, timers and later tasks whose time has come."""
    return _moved(_call(connection, "select tasker.due_steps(%s, %s)", limit, moves))


def dispatch_steps(connection: Connection, limit: int, *, moves: bool) -> Moved:
    """Enqueue held steps that are held no longer."""
    return _moved(_call(connection, "select tasker.dispatch_steps(%s, %s)", limit, moves))


def dispatch_tasks(connection: Connection, tasks: Sequence[UUID], *, moves: bool) -> Moved:
    """Enqueue the held steps of these tasks that are held no longer."""
    return _moved(_call(connection, "select tasker.dispatch_tasks(%s::uuid[], %s)", list(tasks), moves))


def recover_steps(connection: Connection, max_losses: int, limit: int, *, moves: bool) -> Moved:
    """Take steps back from stopped workers."""
    return _moved(_call(connection, "select tasker.recover_steps(%s, %s, %s)", max_losses, limit, moves))


def expire_tasks(connection: Connection, limit: int, *, moves: bool) -> Moved:
    """End tasks whose deadline has passed; `looked_at` says how many deadlines were dealt with."""
    return _moved(_call(connection, "select tasker.expire_tasks(%s, %s)", limit, moves))


def expire_steps(connection: Connection, limit: int, *, moves: bool) -> Moved:
    """End steps that nobody has begun in time."""
    return _moved(_call(connection, "select tasker.expire_steps(%s, %s)", limit, moves))


def overdue_attempts(connection: Connection, grace_seconds: float) -> dict[int, int]:
    """Attempts open for longer than their time and the grace, under workers that look alive, by step id."""
    query = "select step_id, attempt from tasker.overdue_attempts(make_interval(secs => %s))"
    return dict(connection.execute(query, [grace_seconds]).fetchall())


def time_out_steps(connection: Connection, attempts: Mapping[int, int], *, moves: bool) -> Moved:
    """End attempts whose time is over."""
    query = "select tasker.time_out_steps(%s::bigint[], %s::integer[], %s)"
    return _moved(_call(connection, query, list(attempts), list(attempts.values()), moves))


def republish_steps(
    connection: Connection, grace_seconds: float, limit: int, probe: int, max_publishes: int
) -> Moved:
    """Find lost messages; `unclaimable` are the steps published often enough in vain."""
    return _moved(
        _call(
            connection,
            "select tasker.republish_steps(make_interval(secs => %s), %s, %s, %s)",
            grace_seconds,
            limit,
            probe,
            max_publishes,
        )
    )


def freshen_steps(connection: Connection, ids: Sequence[int], at: str) -> Moved:
    """Give those that still have the time of publication `at` a new one; they are to be published now."""
    return _moved(_call(connection, "select tasker.freshen_steps(%s, %s)", list(ids), at))


def park_steps(connection: Connection, ids: Sequence[int], *, moves: bool) -> Moved:
    """Put unclaimable steps into error."""
    return _moved(_call(connection, "select tasker.park_steps(%s, %s)", list(ids), moves))


def retry_steps(
    connection: Connection,
    steps: Sequence[int],
    tasks: Sequence[UUID],
    actor: str | None,
    reason: str | None,
    *,
    moves: bool,
) -> Moved:
    """Give failed steps, and all failed steps of `tasks`, another go."""
    return _moved(
        _call(
            connection,
            "select tasker.retry_steps(%s::bigint[], %s::uuid[], %s, %s, %s)",
            list(steps),
            list(tasks),
            actor,
            reason,
            moves,
        )
    )


def park_by_hand(
    connection: Connection, steps: Sequence[int], actor: str | None, reason: str | None, *, moves: bool
) -> Moved:
    """Take steps out that do not run."""
    return _moved(
        _call(
            connection,
            "select tasker.park_by_hand(%s::bigint[], %s, %s, %s)",
            list(steps),
            actor,
            reason,
            moves,
        )
    )


def cancel_tasks(
    connection: Connection, tasks: Sequence[UUID], actor: str | None, reason: str | None, *, moves: bool
) -> Moved:
    """End tasks and all their open steps."""
    return _moved(
        _call(
            connection,
            "select tasker.cancel_tasks(%s::uuid[], %s, %s, %s)",
            list(tasks),
            actor,
            reason,
            moves,
        )
    )


def pause_tasks(
    connection: Connection, tasks: Sequence[UUID], actor: str | None, reason: str | None, *, moves: bool
) -> Moved:
    """Hold what tasks have not begun."""
    query = "select tasker.pause_tasks(%s::uuid[], %s, %s, %s)"
    return _moved(_call(connection, query, list(tasks), actor, reason, moves))


def resume_tasks(
    connection: Connection, tasks: Sequence[UUID], actor: str | None, reason: str | None, *, moves: bool
) -> Moved:
    """Let paused tasks go on."""
    query = "select tasker.resume_tasks(%s::uuid[], %s, %s, %s)"
    return _moved(_call(connection, query, list(tasks), actor, reason, moves))


def pause_queues(
    connection: Connection, queues: Sequence[str], actor: str | None, reason: str | None
) -> Moved:
    """Hold what steps of queues have not begun; `refused` are the names nobody knows."""
    query = "select tasker.pause_queues(%s::text[], %s, %s)"
    return _moved(_call(connection, query, list(queues), actor, reason))


def resume_queues(connection: Connection, queues: Sequence[str]) -> Moved:
    """Let paused queues go on; `refused` are the names nobody knows."""
    return _moved(_call(connection, "select tasker.resume_queues(%s::text[])", list(queues)))


def register_worker(  # noqa: PLR0917 - the SQL function's own order
    connection: Connection,
    parent: int | None,
    kind: str,
    instance: UUID,
    host: str,
    pid: int,
    queues: Sequence[str],
    handlers: Sequence[str],
    slots: int = 1,
) -> int:
    """Announce a process that runs `slots` messages at once; its worker id.

    Raises WorkerStopped when the parent was stopped.
    """
    return int(
        _call(
            connection,
            "select tasker.register_worker(%s, %s, %s, %s, %s, %s::text[], %s::text[], %s)",
            parent,
            kind,
            instance,
            host,
            pid,
            list(queues),
            list(handlers),
            slots,
        )
    )


def find_main(connection: Connection, instance: UUID) -> int | None:
    """The live worker id of a main process, None if it is not registered (any more)."""
    found = _call(connection, "select tasker.find_main(%s)", instance)
    return None if found is None else int(found)


def beat_worker(connection: Connection, worker: int, free: int, received: Mapping[str, str]) -> bool:
    """A main's sign of life; False if it was stopped meanwhile."""
    return bool(
        _call(connection, "select tasker.beat_worker(%s, %s, %s)", worker, free, json.dumps(dict(received)))
    )


def stop_workers(
    connection: Connection, workers: Sequence[int], beats: Sequence[int] | None, reason: str
) -> list[int]:
    """Mark workers and their children stopped; with `beats`, only those that have not beaten since."""
    return list(
        _call(
            connection,
            "select tasker.stop_workers(%s::int[], %s::bigint[], %s)",
            list(workers),
            None if beats is None else list(beats),
            reason,
        )
    )


def live_children(connection: Connection, worker: int) -> dict[int, int]:
    """Process ids of the children of a main that are not stopped, by worker id."""
    return dict(connection.execute("select id, pid from tasker.live_children(%s)", [worker]).fetchall())


def live_workers(connection: Connection) -> dict[int, int]:
    """Beats of every main and coordinator that is not stopped, by worker id."""
    return dict(connection.execute("select id, beats from tasker.live_workers()").fetchall())


def take_turn(connection: Connection, loop: str, every_seconds: float, worker: int | None) -> bool:
    """Whether this process runs the next pass of a coordinator loop."""
    return bool(
        _call(
            connection,
            "select tasker.take_turn(%s, make_interval(secs => %s), %s)",
            loop,
            every_seconds,
            worker,
        )
    )


def record_expectations(connection: Connection, measured: Mapping[str, float]) -> None:
    """Blend measured handler times, in milliseconds, into the shared expectations."""
    _call(connection, "select tasker.record_expectations(%s)", json.dumps(dict(measured)))


def step_results(connection: Connection, task: UUID, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """State, result and last error of named steps of a task; unknown names are absent."""
    reply = _call(connection, "select tasker.step_results(%s, %s)", task, list(names))
    return dict(reply)


def task_states(connection: Connection, tasks: Sequence[UUID]) -> dict[UUID, str]:
    """States of tasks by id, by primary key; unknown ids are absent."""
    query = "select id, state from tasker.task_states(%s::uuid[])"
    return dict(connection.execute(query, [list(tasks)]).fetchall())


def ended_attempts(connection: Connection, attempts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of (step id, attempt) that have ended, by primary key."""
    query = "select step_id, attempt from tasker.ended_attempts(%s::bigint[], %s::integer[])"
    steps, numbers = [step for step, _ in attempts], [number for _, number in attempts]
    return connection.execute(query, [steps, numbers]).fetchall()


def parent_results(connection: Connection, step: int) -> dict[str, Any]:
    """Results of all direct parents of a step, by name."""
    return dict(_call(connection, "select tasker.parent_results(%s)", step))


def _claimed(rows: Sequence[dict[str, Any]], claim: UUID) -> list[ClaimedStep]:
    return [ClaimedStep(claim=claim, **row) for row in rows]


def _moved(reply: dict[str, Any]) -> Moved:
    moved = reply.pop("moved", 0)
    ids = moved if isinstance(moved, list) else []
    given = {key: value for key, value in reply.items() if value is not None}
    return Moved(count=len(ids) if ids else moved if isinstance(moved, int) else 0, ids=ids, **given)
