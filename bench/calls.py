"""The calls of the hot path, of the coordinator's loops and of those who watch, each with work to do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bench.database import LOST, PAUSED
from tasker.db import diagnosis, functions, queries
from tasker.domain.records import TaskFilter
from tests.sql.actions import beat, cancel, stop
from tests.sql.protocol import Won, keep, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sql.protocol import Connection, Protocol

STANDING = 64
"""Steps of each kind that are there all the time: published, held, waiting, failed, running."""
LIMIT = 1000
"""`coordinator_batch`."""
EXPIRE_TASKS = 100
UNTOLD = False
"""Nobody asks for the moves that a call made."""
EXPLAIN = "explain (analyze, buffers, wal, timing off, format json)"
EXPLAINED = 3
ALONE = False
"""A submit in a transaction of its own."""


class Asked(NamedTuple):
    """A call of `tasker.<function>`."""

    function: str
    arguments: tuple[object, ...]


class Touched(NamedTuple):
    """What a call read and wrote, whatever else the machine did."""

    pages: int
    wal_bytes: int


class Stage:
    """A session in which tasks are brought to where a call will move `rows` of them."""

    def __init__(self, own: Protocol, rows: int = 1) -> None:
        self.own = own
        self.rows = rows
        self.tasks: list[UUID] = []

    def ask(self, function: str, *arguments: object) -> Asked:
        """That call."""
        return Asked(function, arguments)

    def requests(self, template: str = "chain", **fields: object) -> list[dict[str, Any]]:
        """Requests for as many tasks as there are rows; `clear` removes what becomes of them."""
        asked = [request(template, **fields) for _ in range(self.rows)]
        self.tasks += [UUID(one["id"]) for one in asked]
        return asked

    def submit(self, template: str = "chain", *, joined: bool = False, **fields: object) -> list[int]:
        """Submit them; the ids of their roots."""
        self.own.submit_all(self.requests(template, **fields), joined=joined)
        query = "select id from tasker.steps where task_id = any (%s) and parents_left = 0 order by id"
        return [row["id"] for row in self.own.rows(query, [self.tasks])]

    def claim(self, *, worker: int | None = None) -> Won:
        """Their roots in progress."""
        return self.own.claim(*self.submit(), worker=worker)

    def change(self, table: str, assignment: str) -> None:
        """Move a time of the rows, which nothing else would do without waiting."""
        by = {"tasks": "id = any (%s)", "steps": "task_id = any (%s)"}.get(
            table, "step_id in (select id from tasker.steps where task_id = any (%s))"
        )
        self.own.connection.execute(f"update tasker.{table} set {assignment} where {by}", [self.tasks])  # noqa: S608

    def explain(self, make: Make) -> Touched:
        """The least that several such calls touched: some split a page of an index, or extend a file."""
        found = []
        for _ in range(EXPLAINED):
            asked = make(self)
            places = ", ".join(["%s"] * len(asked.arguments))
            query = f"{EXPLAIN} select tasker.{asked.function}({places})"
            plan = self.own.row(query, asked.arguments)["QUERY PLAN"][0]["Plan"]
            self.clear()
            pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            found.append(Touched(pages, plan["WAL Bytes"]))
        return Touched(*map(min, zip(*found, strict=True)))

    def clear(self) -> None:
        """Cancel what is left of the tasks, so that the work at hand stays the same."""
        cancel(self.own, *self.tasks)
        self.tasks = []


Make: TypeAlias = "Callable[[Stage], Asked]"


def _submit(stage: Stage) -> Asked:
    return stage.ask("submit_tasks", Jsonb(stage.requests()), ALONE, UNTOLD)


def _claim(stage: Stage) -> Asked:
    return stage.ask("claim_steps", stage.submit(), stage.own.worker, uuid4(), UNTOLD)


def _release(stage: Stage) -> Asked:
    won = stage.claim()
    return stage.ask("release_steps", won.ids, won.claim_id, UNTOLD)


def _finish(stage: Stage, outcomes: list[dict[str, Any]], *, keeps: bool = True) -> Asked:
    offer = Jsonb(keep(budget_ms=1000)) if keeps else None
    return stage.ask("finish_steps", Jsonb(outcomes), stage.own.worker, uuid4(), offer, UNTOLD)


def _finish_and_keep(stage: Stage) -> Asked:
    return _finish(stage, stage.claim().complete({"ok": True}))


def _finish_and_publish(stage: Stage) -> Asked:
    return _finish(stage, stage.claim().complete({"ok": True}), keeps=False)


def _settle(stage: Stage) -> Asked:
    kept = stage.own.finish(stage.claim().complete({"ok": True}), keep=keep(budget_ms=1000))
    return _finish(stage, kept.complete({"ok": True}))


def _retry(stage: Stage) -> Asked:
    return _finish(stage, stage.claim().fail(retry_after_ms=3_600_000))


def _fail(stage: Stage) -> Asked:
    return _finish(stage, stage.claim().fail(permanent=True))


def _due(stage: Stage) -> Asked:
    stage.own.finish(stage.claim().fail(retry_after_ms=0))
    return stage.ask("due_steps", LIMIT, UNTOLD)


def _dispatch(stage: Stage) -> Asked:
    stage.submit(joined=True)
    return stage.ask("dispatch_steps", LIMIT, UNTOLD)


def _dispatch_own(stage: Stage) -> Asked:
    stage.submit(joined=True)
    return stage.ask("dispatch_tasks", stage.tasks, UNTOLD)


def _recover(stage: Stage) -> Asked:
    worker = stage.own.register_worker()
    stage.claim(worker=worker)
    stop(stage.own, worker)
    return stage.ask("recover_steps", 3, LIMIT, UNTOLD)


def _overdue(stage: Stage) -> Asked:
    stage.claim()
    stage.change("step_attempts", "claimed_at = claimed_at - interval '1 day'")
    return stage.ask("overdue_attempts", timedelta(seconds=10))


def _time_out(stage: Stage) -> Asked:
    won = stage.claim()
    return stage.ask("time_out_steps", won.ids, [1] * len(won.ids), UNTOLD)


def _expire_tasks(stage: Stage) -> Asked:
    stage.submit(deadline_ms=3_600_000)
    stage.change("tasks", "deadline_at = created_at")
    return stage.ask("expire_tasks", EXPIRE_TASKS, UNTOLD)


def _expire_steps(stage: Stage) -> Asked:
    stage.submit("impatient")
    stage.change("steps", "start_by = changed_at")
    return stage.ask("expire_steps", LIMIT, UNTOLD)


def _republish(stage: Stage) -> Asked:
    stage.submit(LOST)
    stage.change("steps", "enqueued_at = enqueued_at - interval '1 hour'")
    return stage.ask("republish_steps", timedelta(seconds=5), LIMIT, STANDING, 5)


def _park(stage: Stage) -> Asked:
    steps = stage.submit(LOST)
    stage.change("steps", "republished = 5")
    return stage.ask("park_steps", steps, UNTOLD)


def _take_turn(stage: Stage) -> Asked:
    return stage.ask("take_turn", "bench", timedelta(0), stage.own.worker)


def _beat(stage: Stage) -> Asked:
    return stage.ask("beat_worker", stage.own.worker, 0, Jsonb({}))


def _watch(stage: Stage) -> Asked:
    return stage.ask("live_workers")


def _stop(stage: Stage) -> Asked:
    return stage.ask("stop_workers", [stage.own.register_worker()], None, "shutdown")


HOT: dict[str, Make] = {
    "submit": _submit,
    "claim": _claim,
    "finish, next kept": _finish_and_keep,
    "finish, next published": _finish_and_publish,
    "finish, task settled": _settle,
    "finish, to retry": _retry,
    "finish, failed": _fail,
    "release": _release,
}
LOOPS: dict[str, Make] = {
    "due": _due,
    "dispatch": _dispatch,
    "dispatch own": _dispatch_own,
    "recover": _recover,
    "overdue": _overdue,
    "time out": _time_out,
    "expire tasks": _expire_tasks,
    "expire steps": _expire_steps,
    "republish": _republish,
    "park": _park,
}
UNCOUNTED: dict[str, Make] = {
    "take turn": _take_turn,
    "beat": _beat,
    "live workers": _watch,
    "stop workers": _stop,
}
"""Calls that concern one worker or one loop, whatever the rows."""

READS: dict[str, Callable[[Connection, UUID], object]] = {
    "wait": lambda connection, task: functions.task_states(connection, [task]),
    "task show": lambda connection, task: (
        queries.get_task(connection, task),
        queries.list_steps(connection, task),
        diagnosis.task_execution_contexts(connection, [task]),
        queries.list_results(connection, task),
    ),
    "task list": lambda connection, _: queries.list_tasks(connection),
    "task list --state error": lambda connection, _: queries.list_tasks(
        connection, TaskFilter(state="error")
    ),
}


def stand(own: Protocol) -> None:
    """Bring about the work that is there all the time."""
    stage = Stage(own, STANDING)
    stage.submit()
    stage.submit(PAUSED)
    stage.tasks = []
    for outcome in ({"retry_after_ms": 3_600_000}, {"permanent": True}):
        own.finish(stage.claim().fail(**outcome))
        stage.tasks = []
    stage.claim()
    assert beat(own, own.worker)
