"""The SQL protocol as tests speak it: graphs in a short notation, calls with fresh ids, and what they left.

`START` is where the clock of every session stands; it moves only by `pass_time`. So a repeated call has to
return an equal reply, its time included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tasker.domain.retry import Retry
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.domain.version import version_key

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Reply: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]

START = datetime(2030, 1, 1, tzinfo=UTC)
QUEUE = "celery"
HANDLER = "work"
THREE_ATTEMPTS = Retry(max_attempts=3, backoff="exponential", base_seconds=1, jitter="none")


def graph(notation: str) -> dict[str, list[str]]:
    """The parents of each step: in `a > b, c > d; a > e` d has b and c, and e has a. Order is kept."""
    parents: dict[str, list[str]] = {}
    for chain in notation.split(";"):
        earlier: list[str] = []
        for level in chain.split(">"):
            names = [name.strip() for name in level.split(",")]
            for name in names:
                parents.setdefault(name, []).extend(earlier)
            earlier = names
    return parents


def definition(
    notation: str,
    *,
    name: str = "graph",
    version: str = "1.0.0",
    steps: Mapping[str, Mapping[str, Any]] | None = None,
    **every: Any,
) -> TemplateDefinition:
    """A template `tests/<name>`; `every` and, before it, `steps[name]` set fields of StepDefinition."""
    fields = {"handler": HANDLER, "retry": THREE_ATTEMPTS, **every}
    return TemplateDefinition(
        namespace="tests",
        name=name,
        version=version,
        steps=tuple(
            StepDefinition(name=step, depends_on=tuple(parents), **fields | dict((steps or {}).get(step, {})))
            for step, parents in graph(notation).items()
        ),
    )


def request(template: str = "graph", **fields: Any) -> Row:
    """A submit request with a fresh id; `fields` are those of submit_tasks."""
    asked = {"id": uuid4(), "namespace": "tests", "name": template, "context": {}, "request_digest": "digest"}
    return {key: str(value) if key == "id" else value for key, value in (asked | fields).items()}


@dataclass(frozen=True)
class Attempt:
    """A step won under a claim, as a row of `claimed()`, and the outcomes its worker can report."""

    row: Row
    claim_id: UUID

    @property
    def step_id(self) -> int:
        return int(self.row["id"])

    def complete(self, result: object = None, *, started_ms_ago: float = 0) -> Row:
        """The outcome of a handler that returned `result`."""
        return self._outcome("complete", result=result, started_ms_ago=started_ms_ago)

    def fail(self, *, permanent: bool = False, retry_after_ms: float | None = None, **error: Any) -> Row:
        """The outcome of a handler that raised `error` (type, message, …)."""
        return self._outcome(
            "failure",
            error={"type": "ValueError", **error},
            permanent=permanent,
            retry_after_ms=retry_after_ms,
            started_ms_ago=0,
        )

    def _outcome(self, kind: str, **fields: Any) -> Row:
        return {
            "step_id": self.step_id,
            "attempt": self.row["attempt"],
            "claim_id": str(self.claim_id),
            "kind": kind,
            **fields,
        }


@dataclass(frozen=True)
class Won:
    """The reply of a claim, or of a finish that kept steps, and the attempts it won by step id."""

    reply: Reply
    claim_id: UUID

    @cached_property
    def attempts(self) -> dict[int, Attempt]:
        rows = self.reply["steps"] if "steps" in self.reply else self.reply["kept"]
        return {row["id"]: Attempt(row, self.claim_id) for row in rows}

    @property
    def ids(self) -> list[int]:
        """The steps won, in the order in which the worker runs them."""
        return list(self.attempts)

    @property
    def only(self) -> Attempt:
        """The attempt of a claim that won exactly one step."""
        (attempt,) = self.attempts.values()
        return attempt

    @property
    def published(self) -> list[int]:
        return published(self.reply)

    def complete(self, result: object = None) -> list[Row]:
        """An outcome for each step won."""
        return [attempt.complete(result) for attempt in self.attempts.values()]

    def fail(self, **failure: Any) -> list[Row]:
        """A failure for each step won; keywords of `Attempt.fail`."""
        return [attempt.fail(**failure) for attempt in self.attempts.values()]


def published(reply: Reply) -> list[int]:
    """The ids of the steps that a reply asks to publish, sorted; an id asked for twice is in it twice."""
    return sorted(step for _, _, _, ids in reply["publish"] for step in ids)


def keep(*, queue: str = QUEUE, budget_ms: float = 50, most: int = 64) -> Row:
    """What a worker offers to run next, as `p_keep`."""
    return {"queue": queue, "budget_ms": budget_ms, "max": most}


@contextmanager
def refused(connection: Connection, sqlstate: str) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """The block's statement has to raise `sqlstate`; what it did is undone and the session goes on."""
    with pytest.raises(psycopg.Error) as caught, connection.transaction():
        yield caught
    assert caught.value.sqlstate == sqlstate, caught.value


class Protocol:
    """One session that speaks the protocol. Its own worker serves QUEUE and has HANDLER."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now = START
        self.pass_time(0)

    def pass_time(self, seconds: float) -> None:
        """Move this session's clock; other sessions keep theirs."""
        self.now += timedelta(seconds=seconds)
        self.connection.execute("select set_config('tasker.fake_now', %s, false)", [self.now.isoformat()])

    # Calls

    def call(self, function: str, *arguments: object) -> Any:
        """The value of `tasker.<function>(arguments)`."""
        places = ", ".join(["%s"] * len(arguments))
        row = self.connection.execute(f"select tasker.{function}({places})", arguments).fetchone()
        assert row is not None
        return row[0]

    def refused(self, sqlstate: str) -> Any:
        """A block whose statement in this session has to raise `sqlstate`."""
        return refused(self.connection, sqlstate)

    def store(self, template: TemplateDefinition, *, queue: str = QUEUE) -> Reply:
        """register_template of a definition."""
        reply: Reply = self.call(
            "register_template",
            Jsonb(template.to_json()),
            template.digest,
            version_key(template.version),
            queue,
        )
        return reply

    def register(self, notation: str, **fields: Any) -> int:
        """Store `definition(notation, **fields)`; returns the template's id."""
        template_id: int = self.store(definition(notation, **fields))["id"]
        return template_id

    def register_worker(
        self,
        *,
        queues: Sequence[str] = (QUEUE,),
        handlers: Sequence[str] = (HANDLER,),
        parent: int | None = None,
        kind: str = "main",
        slots: int = 1,
    ) -> int:
        """A further worker; returns its id."""
        worker: int = self.call(
            "register_worker", parent, kind, uuid4(), "host", 1, list(queues), list(handlers), slots
        )
        return worker

    @cached_property
    def worker(self) -> int:
        """The id of this session's own worker, registered when first asked for."""
        return self.register_worker()

    def submit(self, template: str = "graph", *, joined: bool = False, **fields: Any) -> UUID:
        """Submit one task; returns its id."""
        reply = self.submit_all([request(template, **fields)], joined=joined)
        return UUID(reply["tasks"][0]["id"])

    def submit_all(self, requests: Sequence[Row], *, joined: bool = False, moves: bool = False) -> Reply:
        """submit_tasks."""
        reply: Reply = self.call("submit_tasks", Jsonb(requests), joined, moves)
        return reply

    def claim(
        self, *steps: int, worker: int | None = None, claim_id: UUID | None = None, moves: bool = False
    ) -> Won:
        """claim_steps under a fresh claim id, unless one is given."""
        claim_id = claim_id or uuid4()
        own = self.worker if worker is None else worker
        return Won(self.call("claim_steps", list(steps), own, claim_id, moves), claim_id)

    def finish(
        self,
        outcomes: Sequence[Row],
        *,
        keep: Row | None = None,
        worker: int | None = None,
        claim_id: UUID | None = None,
        moves: bool = False,
    ) -> Won:
        """finish_steps; what it kept is won under a fresh claim id, unless one is given."""
        claim_id = claim_id or uuid4()
        own = self.worker if worker is None else worker
        offer = None if keep is None else Jsonb(keep)
        return Won(self.call("finish_steps", Jsonb(outcomes), own, claim_id, offer, moves), claim_id)

    def release(self, won: Won, *steps: int, moves: bool = False) -> Reply:
        """release_steps of `steps`, or of all that was won."""
        reply: Reply = self.call("release_steps", list(steps) or won.ids, won.claim_id, moves)
        return reply

    def due(self, *, limit: int = 1000, moves: bool = False) -> Reply:
        """due_steps."""
        reply: Reply = self.call("due_steps", limit, moves)
        return reply

    def dispatch(self, *, limit: int = 1000, moves: bool = False) -> Reply:
        """dispatch_steps."""
        reply: Reply = self.call("dispatch_steps", limit, moves)
        return reply

    def complete(self, *steps: int, result: object = None) -> Won:
        """Claim enqueued steps and complete them all in one finish."""
        return self.finish(self._claim_all(steps).complete(result))

    def fail(self, *steps: int, **failure: Any) -> Won:
        """Claim enqueued steps and fail them all in one finish; keywords of `Attempt.fail`."""
        return self.finish(self._claim_all(steps).fail(**failure))

    def _claim_all(self, steps: tuple[int, ...]) -> Won:
        won = self.claim(*steps)
        assert won.ids == sorted(steps), self.rows("select id, state from tasker.steps order by id")
        return won

    # Circumstances

    def pause_queue(self, queue: str = QUEUE) -> None:
        """pause_queues of one queue."""
        self.call("pause_queues", [queue], None, None)

    def resume_queue(self, queue: str = QUEUE) -> None:
        """resume_queues of one queue."""
        self.call("resume_queues", [queue])

    def close_gate(self, queue: str = QUEUE) -> None:
        """Hold a queue's steps as back-pressure does."""
        self._set_queue(queue, "gate_open = false")

    def open_gate(self, queue: str = QUEUE) -> None:
        """Undo `close_gate`."""
        self._set_queue(queue, "gate_open = true")

    def _set_queue(self, queue: str, setting: str) -> None:
        changed = self.connection.execute(f"update tasker.queues set {setting} where name = %s", [queue])
        assert changed.rowcount == 1, f"there is no queue {queue}"

    def pause_task(self, task: UUID, *, moves: bool = False) -> None:
        """pause_tasks of one task, which has to be in progress."""
        assert self.call("pause_tasks", [task], None, None, moves)["moved"] == [str(task)]

    def resume_task(self, task: UUID, *, moves: bool = False) -> None:
        """resume_tasks of one task, which has to be paused."""
        assert self.call("resume_tasks", [task], None, None, moves)["moved"] == [str(task)]

    def expect(self, **handlers: float) -> None:
        """Set what steps of handlers take, in ms."""
        self.call("record_expectations", Jsonb(handlers))

    # What is there

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows of a query as dicts."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def row(self, query: str, parameters: Sequence[object] = ()) -> Row:
        """The one row of a query."""
        (row,) = self.rows(query, parameters)
        return row

    def steps(self, task: UUID) -> dict[str, int]:
        """Step ids by name."""
        found = self.rows("select name, id from tasker.steps where task_id = %s order by ordinal", [task])
        return {row["name"]: row["id"] for row in found}

    def states(self, task: UUID) -> dict[str, str]:
        """Step states by name."""
        found = self.rows("select name, state from tasker.steps where task_id = %s order by ordinal", [task])
        return {row["name"]: row["state"] for row in found}

    def step(self, step: int) -> Row:
        """The row of a step."""
        return self.row("select * from tasker.steps where id = %s", [step])

    def task(self, task: UUID) -> Row:
        """The row of a task."""
        return self.row("select * from tasker.tasks where id = %s", [task])

    def counters(self, task: UUID) -> tuple[str, int, int, int]:
        """(state, open, active, failed) of a task."""
        row = self.task(task)
        return row["state"], row["steps_open"], row["steps_active"], row["steps_failed"]

    def attempts(self, step: int) -> list[Row]:
        """The attempts of a step, first to last."""
        return self.rows("select * from tasker.step_attempts where step_id = %s order by attempt", [step])

    def log(self, task: UUID) -> list[tuple[str | None, str | None, str]]:
        """(step name or None for the task, from, to) of a task's transitions in order."""
        found = self.rows(
            "select s.name, t.from_state, t.to_state from tasker.transitions t"
            " left join tasker.steps s on s.id = t.step_id where t.task_id = %s order by t.seq",
            [task],
        )
        return [(row["name"], row["from_state"], row["to_state"]) for row in found]

    def log_of(self, step: int) -> list[str]:
        """The states a step entered, in order."""
        found = self.rows("select to_state from tasker.transitions where step_id = %s order by seq", [step])
        return [row["to_state"] for row in found]
