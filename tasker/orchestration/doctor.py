"""What is wrong with an installation as its database shows it, each finding with its remedy."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasker.db import diagnosis, holds
from tasker.db.scripts import Scripts
from tasker.domain.durations import duration
from tasker.orchestration.explain import SILENT_COORDINATOR_SECONDS, held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasker.db.diagnosis import Server
    from tasker.db.functions import Connection
    from tasker.domain.records import SystemHealth, UnservedSteps

HOURS_CHECKED = 1.0
SECONDS_FOR_INVARIANTS = 30.0
"""Some hundred thousand tasks can be looked at in this time."""

SKEW_SECONDS = 2.0
LATE_SECONDS = 30.0
"""What the loops should have moved within a second or two."""

BACKLOG_SECONDS = 60.0
"""A message that is older has waited for workers that are busy with others."""

CONNECTIONS_SHARE = 0.9
"""Beyond this share of PostgreSQL's connections the next worker may find none."""

START_WORKER = "start a worker, or `tasker coordinator`; `--no-coordinator` must not be on all of them"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check; `remedy` says what to do, and is empty when `ok`."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


def checks(connection: Connection, *, hours: float | None = HOURS_CHECKED) -> list[Finding]:
    """Every check of the database, one finding each, or one for each thing that is wrong. Reads only.

    Invariants are looked at for tasks that have not finished, or did in the last `hours`; None for all of
    them, however long that takes.
    """
    health = diagnosis.system_health(connection)
    return [
        *_coordinator(health),
        *_due(health),
        *_stopped_workers(connection),
        *_overdue(connection),
        *_unserved(connection),
        *_backlogs(health),
        *_paused(connection),
        *_clock(connection),
        *_indexes(connection),
        *_server(connection),
        *_invariants(connection, hours),
    ]


def _coordinator(health: SystemHealth) -> Iterator[Finding]:
    seconds = health.loops.seconds_since_last
    if seconds is None:
        yield Finding("coordinator", ok=False, text="no coordinator was ever seen", remedy=START_WORKER)
    elif seconds > SILENT_COORDINATOR_SECONDS:
        seen = f"no coordinator seen for {duration(seconds)}"
        yield Finding("coordinator", ok=False, text=seen, remedy=START_WORKER)
    else:
        yield Finding("coordinator", ok=True, text=f"a coordinator ran {duration(seconds)} ago")


def _due(health: SystemHealth) -> Iterator[Finding]:
    late = health.due.overdue_seconds or 0.0
    if late > LATE_SECONDS:
        yield Finding(
            "due",
            ok=False,
            text=f"{_steps(health.due.overdue)} should have started, the first {duration(late)} ago",
            remedy="if a coordinator runs, it cannot keep up: start more of them, or look into its log",
        )
    else:
        yield Finding("due", ok=True, text="retries and timers start in time")


def _stopped_workers(connection: Connection) -> Iterator[Finding]:
    left = diagnosis.abandoned_attempts(connection)
    if left.seconds > LATE_SECONDS:
        yield Finding(
            "stopped_workers",
            ok=False,
            text=f"{_steps(left.attempts)} of stopped workers not taken back for {duration(left.seconds)}",
            remedy=START_WORKER,
        )
    else:
        yield Finding("stopped_workers", ok=True, text="no stopped worker holds steps")


def _overdue(connection: Connection) -> Iterator[Finding]:
    count = diagnosis.overdue_attempts(connection, LATE_SECONDS)
    if count:
        yield Finding(
            "timeouts",
            ok=False,
            text=f"{_steps(count)} in progress for {duration(LATE_SECONDS)} longer than allowed",
            remedy="their workers look alive and do not end them: `tasker task why` says where they run; "
            "start those workers anew",
        )
    else:
        yield Finding("timeouts", ok=True, text="no handler runs longer than it may")


def _unserved(connection: Connection) -> Iterator[Finding]:
    found = diagnosis.unserved_steps(connection)
    now = diagnosis.clock(connection)
    by_queue: dict[str, list[UnservedSteps]] = {}
    for waiting in found:
        if not waiting.queue_served:
            by_queue.setdefault(waiting.queue, []).append(waiting)
    for queue, rows in by_queue.items():
        age = duration((now - min(row.oldest_at for row in rows)).total_seconds())
        yield Finding(
            "queues",
            ok=False,
            text=f"{_steps(sum(row.steps for row in rows))} on queue `{queue}`, the oldest for {age}, "
            "and no live worker serves it",
            remedy=f"start one with `tasker -A MODULE worker --queues {queue}`",
        )
    if not by_queue:
        yield Finding("queues", ok=True, text="every queue with steps has a live worker")

    lacking = [waiting for waiting in found if waiting.queue_served]
    for row in lacking:
        yield Finding(
            "handlers",
            ok=False,
            text=f"{_steps(row.steps)} on queue `{row.queue}` need handler `{row.handler}`, the oldest for "
            f"{duration((now - row.oldest_at).total_seconds())}, and no live worker of that queue has it",
            remedy=f"start a worker of queue `{row.queue}` whose -A MODULE registers `{row.handler}`",
        )
    if not lacking:
        yield Finding("handlers", ok=True, text="live workers have every handler that steps wait for")


def _backlogs(health: SystemHealth) -> Iterator[Finding]:
    for queue in health.queues:
        seconds = queue.oldest_enqueued_seconds or 0.0
        if seconds > BACKLOG_SECONDS and queue.workers and not queue.paused:
            yield Finding(
                "backlog",
                ok=True,
                text=f"{_steps(queue.enqueued)} enqueued on queue `{queue.name}`, the oldest for "
                f"{duration(seconds)}",
                remedy="its workers are busy: `tasker task why` names the steps that run; start more workers "
                "if that lasts",
            )
        waited = queue.oldest_ready_seconds or 0.0
        if waited > BACKLOG_SECONDS and queue.workers and not queue.paused and not queue.gate_open:
            yield Finding(
                "backlog",
                ok=True,
                text=f"{_steps(queue.ready)} waiting for room on queue `{queue.name}`, the oldest for "
                f"{duration(waited)}",
                remedy="as much is published as its workers finish in half a second, the rest follows by "
                "priority, then age; start more workers if that lasts",
            )


def _paused(connection: Connection) -> Iterator[Finding]:
    now = diagnosis.clock(connection)
    paused = [queue for queue in holds.list_queues(connection) if queue.hold]
    for queue in paused:
        yield Finding(
            "holds",
            ok=True,
            text=f"queue `{queue.name}` was paused {held(queue.hold, now)}; "
            f"{_steps(queue.held + queue.published)} waiting",
            remedy=f"`tasker queue resume {queue.name}` lets it go on",
        )
    if not paused:
        yield Finding("holds", ok=True, text="no queue is paused")


def _clock(connection: Connection) -> Iterator[Finding]:
    before = time.time()
    theirs = diagnosis.clock(connection).timestamp()
    skew = theirs - (before + time.time()) / 2
    if abs(skew) > SKEW_SECONDS:
        yield Finding(
            "clock",
            ok=False,
            text=f"the database's clock is {duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this "
            "machine's",
            remedy="synchronise both (NTP); the database's decides what is due, this one's is in the logs",
        )
    else:
        yield Finding("clock", ok=True, text="the clocks of this machine and the database agree")


def _indexes(connection: Connection) -> Iterator[Finding]:
    found = diagnosis.valid_indexes(connection)
    missing = [name for name in Scripts.read().index_names() if name not in found]
    for name in missing:
        yield Finding(
            "indexes",
            ok=False,
            text=f"the index tasker.{name} is missing or was not built to its end",
            remedy="drop it if it is there, and run its line of `tasker db sql --empty`; work slows down "
            "with every task until then",
        )
    if not missing:
        yield Finding("indexes", ok=True, text="no index is missing")


def _server(connection: Connection) -> Iterator[Finding]:
    server = diagnosis.server(connection)
    wrong = [*_commits(server), *_room(server)]
    yield from wrong
    if not wrong:
        text = f"{server.connections} of {server.max_connections} connections of PostgreSQL are taken"
        yield Finding("postgresql", ok=True, text=text)
    if not server.statement_timeout_seconds:
        yield Finding(
            "postgresql",
            ok=True,
            text="PostgreSQL ends no statement of ours that hangs: a connection pooler drops our limits",
            remedy="give them to the role: alter role NAME set statement_timeout = '30s'; likewise "
            "lock_timeout = '10s' and idle_in_transaction_session_timeout = '30s'",
        )


def _commits(server: Server) -> Iterator[Finding]:
    if server.synchronous_commit == "off":
        yield Finding(
            "postgresql",
            ok=False,
            text="synchronous_commit is off: a crash of PostgreSQL may take back what was reported as done",
            remedy="set it to on for the role or the database that Tasker uses",
        )
    if server.default_transaction_isolation != "read committed":
        yield Finding(
            "postgresql",
            ok=False,
            text=f"default_transaction_isolation is {server.default_transaction_isolation}: every call of "
            "Tasker's is refused",
            remedy="alter role NAME set default_transaction_isolation = 'read committed'",
        )


def _room(server: Server) -> Iterator[Finding]:
    if server.connections > CONNECTIONS_SHARE * server.max_connections:
        yield Finding(
            "postgresql",
            ok=False,
            text=f"{server.connections} of {server.max_connections} connections of PostgreSQL are taken: the "
            "next process may get none",
            remedy="raise max_connections, or put PgBouncer between; docs/deploying.md says how many each "
            "process opens",
        )


def _invariants(connection: Connection, hours: float | None) -> Iterator[Finding]:
    seen = "all tasks" if hours is None else f"tasks not finished, or in the last {duration(hours * 3600)}"
    limit = None if hours is None else SECONDS_FOR_INVARIANTS
    try:
        found = diagnosis.invariant_violations(connection, hours=hours, within_seconds=limit)
    except TimeoutError:
        yield Finding(
            "invariants",
            ok=True,
            text=f"not looked at: {seen} are too many for {duration(SECONDS_FOR_INVARIANTS)}; the function "
            "`tasker.invariant_violations()` takes the time it needs",
        )
        return
    first = {violation.invariant: violation for violation in reversed(found)}
    for name, count in Counter(violation.invariant for violation in found).items():
        times = "once" if count == 1 else f"{count} times"
        yield Finding(
            "invariants",
            ok=False,
            text=f"{name} is violated {times}; {first[name].entity}: {first[name].detail}",
            remedy="this is a defect of Tasker, or a change made by hand: please report it, with this line",
        )
    if not found:
        seen = (
            "all tasks" if hours is None else f"tasks not finished, or in the last {duration(hours * 3600)}"
        )
        yield Finding("invariants", ok=True, text=f"the data is sound ({seen})")


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
