"""Transactional steps in a worker's executor: the writes are there exactly when the step is complete."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from tasker import StepContext, TaskTemplate
from tasker.db import functions
from tasker.domain.errors import TemplateError
from tasker.domain.outcomes import Outcome
from tasker.domain.replies import ClaimedStep
from tasker.orchestration import operate
from tasker.orchestration.advance import finish
from tasker.orchestration.engine import Engine
from tasker.orchestration.recovery import take_back
from tasker.orchestration.templates import store
from tasker.worker import registry
from tasker.worker.execute import Executor
from tasker.worker.limits import Limits
from tests.faults.proxy import Cut
from tests.integration.engine import QUEUE, HandPlayedWorker, engine_on, wired

KILLS = 32
MANY_KILLS = 200
RAISED = 70
INSERT = "insert into public.effects (step) values (%s)"


@pytest.fixture(autouse=True)
def process_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "process", registry.Registry())


@pytest.fixture
def effects_url(database_url: str) -> str:
    """A database with a table for the handlers' effects."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "create table public.effects (step text, n int unique deferrable initially deferred)"
        )
    return database_url


@pytest.fixture
def engine(effects_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(effects_url, redis_url) as engine:
        yield engine


class Run:
    """One task of one transactional step and the one behind it, and the worker that claims it."""

    def __init__(self, engine: Engine, handler: Callable[..., Any]) -> None:
        self.engine = engine
        template = TaskTemplate("tests/transactional", version="1.0.0")
        template.add_step(handler, name="write", transactional=True)
        template.add_step(handler, name="after", depends_on=["write"], transactional=True)
        store(engine.database, template.definition, QUEUE)
        handlers = [step.handler for step in template.definition.steps]
        self.worker = HandPlayedWorker(engine, handlers)
        self.executor = Executor(engine, Limits(engine.settings, may_die=False))

    def submit(self) -> UUID:
        task = uuid4()
        request = {
            "id": str(task),
            "namespace": "tests",
            "name": "transactional",
            "context": {},
            "request_digest": "",
        }
        self.engine.run(functions.submit_tasks, json.dumps([request]), joined=False)
        return task

    def claim(self, task: UUID) -> tuple[ClaimedStep, dict[str, Any]]:
        (step,) = self.enqueued(task)
        reply = self.worker.claims([step])
        return reply.steps[0], reply.contexts[str(task)]

    def run(self, task: UUID) -> dict[str, Any]:
        """What a worker does with the message of the step; the error of a failed attempt."""
        step, of = self.claim(task)
        return self.execute(step, of)

    def execute(self, step: ClaimedStep, of: dict[str, Any]) -> dict[str, Any]:
        outcome = self.executor.execute(step, of)
        if outcome is None:
            return {}
        finish(self.engine, [outcome], 0, None)
        return outcome.error or {}

    def enqueued(self, task: UUID) -> list[int]:
        return self.column("select id from tasker.steps where task_id = %s and state = 'enqueued'", task)

    def state(self, task: UUID) -> str:
        (state,) = self.column("select state from tasker.steps where task_id = %s and name = 'write'", task)
        return str(state)

    def effects(self) -> list[str]:
        return self.column("select step from public.effects order by step")

    def column(self, query: str, *arguments: object) -> list[Any]:
        return self.engine.database.call(lambda own: [row[0] for row in own.execute(query, arguments)])


def by_psycopg(connection: psycopg.Connection, step: StepContext) -> str:
    connection.execute(INSERT, [step.idempotency_key])
    return step.name


def by_default(connection, step):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as many write it
    connection.execute(INSERT, [step.idempotency_key])


def by_sqlalchemy(connection: Connection, step: StepContext) -> str:
    connection.execute(
        text("insert into public.effects (step) values (:step)"), {"step": step.idempotency_key}
    )
    return step.name


def by_session(connection: Session, step: StepContext) -> str:
    connection.execute(
        text("insert into public.effects (step) values (:step)"), {"step": step.idempotency_key}
    )
    return step.name


@pytest.mark.parametrize("handler", [by_psycopg, by_default, by_sqlalchemy, by_session])
def test_the_writes_are_there_once_the_step_is_complete(engine: Engine, handler: Callable[..., Any]) -> None:
    run = Run(engine, handler)
    task = run.submit()
    assert run.run(task) == {}
    assert run.state(task) == "complete"
    assert run.run(task) == {}
    assert run.effects() == [f"{task}/after", f"{task}/write"]
    assert run.column("select state from tasker.tasks where id = %s", task) == ["complete"]


def raises(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)
    raise ValueError("after the write")


def violates_at_commit(connection: psycopg.Connection) -> None:
    connection.execute("insert into public.effects values ('a', 1), ('b', 1)")


def returns_what_is_no_json(connection: psycopg.Connection, step: StepContext) -> set[str]:
    return {by_psycopg(connection, step)}


@pytest.mark.parametrize(
    ("handler", "error", "state"),
    [
        (raises, "ValueError", "waiting_for_retry"),
        (violates_at_commit, "psycopg.errors.UniqueViolation", "waiting_for_retry"),
        (returns_what_is_no_json, "tasker.ValueRefused", "error"),
    ],
)
def test_of_a_failed_attempt_nothing_is_left(
    engine: Engine, handler: Callable[..., Any], error: str, state: str
) -> None:
    run = Run(engine, handler)
    task = run.submit()
    assert run.run(task)["type"] == error
    assert run.state(task) == state
    assert run.effects() == []


def commits(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)
    connection.commit()


def rolls_back(connection: psycopg.Connection) -> None:
    connection.rollback()


def commits_by_session(connection: Session, step: StepContext) -> None:
    by_session(connection, step)
    connection.commit()


def commits_by_sqlalchemy(connection: Connection, step: StepContext) -> None:
    by_sqlalchemy(connection, step)
    connection.commit()


@pytest.mark.parametrize("handler", [commits, rolls_back, commits_by_session, commits_by_sqlalchemy])
def test_commit_and_rollback_are_not_the_handlers(engine: Engine, handler: Callable[..., Any]) -> None:
    run = Run(engine, handler)
    task = run.submit()
    error = run.run(task)
    assert error["type"] == "tasker.TransactionEnded"
    assert run.state(task) == "error"
    assert run.effects() == []


def ends_in_sql(words: str) -> Callable[..., None]:
    def ends(connection: psycopg.Connection, step: StepContext) -> None:
        by_psycopg(connection, step)
        connection.execute(words)  # type: ignore[call-overload]

    return ends


@pytest.mark.parametrize(
    "words", ["commit", "\n  ROLLBACK and chain", "end", "abort", b"commit", sql.SQL("commit")]
)
def test_statements_that_would_end_the_transaction_are_refused(engine: Engine, words: Any) -> None:
    run = Run(engine, ends_in_sql(words))
    task = run.submit()
    assert run.run(task)["type"] == "tasker.TransactionEnded"
    assert (run.state(task), run.effects()) == ("error", [])


def goes_back_to_a_savepoint(connection: psycopg.Connection, step: StepContext) -> None:
    connection.execute("savepoint a")
    connection.execute(INSERT, ["undone"])
    connection.execute("rollback to savepoint a")
    by_psycopg(connection, step)


def test_a_rollback_to_a_savepoint_is_the_handlers(engine: Engine) -> None:
    run = Run(engine, goes_back_to_a_savepoint)
    task = run.submit()
    assert run.run(task) == {}
    assert run.effects() == [f"{task}/write"]


def commits_among_others(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)
    connection.execute("select 1; commit")


def test_a_commit_past_the_connection_is_found_at_the_end_and_what_it_wrote_stays(engine: Engine) -> None:
    run = Run(engine, commits_among_others)
    task = run.submit()
    assert run.run(task)["type"] == "tasker.TransactionEnded"
    assert run.state(task) == "error"
    assert run.effects() == [f"{task}/write"]


def takes_back_a_part(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)
    with connection.transaction() as part:
        connection.execute(INSERT, ["undone"])
        raise psycopg.Rollback(part)


def test_savepoints_are_the_handlers(engine: Engine) -> None:
    run = Run(engine, takes_back_a_part)
    task = run.submit()
    assert run.run(task) == {}
    assert run.effects() == [f"{task}/write"]


def test_an_attempt_that_was_ended_meanwhile_leaves_nothing(engine: Engine) -> None:
    def cancelled(connection: psycopg.Connection, step: StepContext) -> None:
        by_psycopg(connection, step)
        operate.cancel_task(engine, UUID(step.task_id), actor=None, reason=None)

    run = Run(engine, cancelled)
    task = run.submit()
    assert run.run(task) == {}
    assert run.state(task) == "cancelled"
    assert run.effects() == []


def closes(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)
    connection.close()


def loses(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)
    connection.pgconn.finish()


@pytest.mark.parametrize("handler", [closes, loses])
def test_a_connection_lost_before_the_commit_fails_the_attempt_and_leaves_nothing(
    engine: Engine, handler: Callable[..., Any]
) -> None:
    run = Run(engine, handler)
    task = run.submit()
    assert run.run(task)["type"] == "psycopg.OperationalError"
    assert (run.state(task), run.effects()) == ("waiting_for_retry", [])


def rests(connection: psycopg.Connection, step: StepContext) -> str:
    by_psycopg(connection, step)
    names = ["statement_timeout", "idle_in_transaction_session_timeout"]
    query = "select current_setting(name) from unnest(%s::text[]) name"
    found = connection.execute(query, [names]).fetchall()
    return "".join(value for (value,) in found)


def test_the_limits_that_a_role_has_for_taskers_sake_are_not_the_handlers(
    engine: Engine, database_url: str
) -> None:
    run = Run(engine, rests)
    task = run.submit()
    with psycopg.connect(database_url, autocommit=True) as admin:
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            admin.execute(f"alter database {admin.info.dbname} set {limit} = '7s'")
    assert run.run(task) == {}
    result = run.column(
        "select result #>> '{}' from tasker.step_attempts a join tasker.steps s on s.id = a.step_id"
        " where s.name = 'write'"
    )
    assert result == ["00"]


def stalls(connection: psycopg.Connection, step: StepContext) -> None:
    by_psycopg(connection, step)


def test_a_client_that_stops_before_its_commit_is_not_waited_for_long(engine: Engine) -> None:
    run = Run(engine, stalls)
    step, of = run.claim(run.submit())
    with run.executor._in_transaction._transactions.begin(psycopg.Connection) as transaction:
        outcome = Outcome(step, time.monotonic(), time.monotonic(), result="1").to_json(time.monotonic())
        functions.finish_transaction(transaction.connection, outcome, transaction._id, moves=False)
        limits = (
            "select current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
        )
        assert transaction.connection.execute(limits).fetchone() == ("30s", "10s")
    assert of["context"] == {}


@pytest.mark.parametrize("handler", [by_psycopg, by_sqlalchemy, by_session])
def test_a_database_that_is_away_before_the_handler_is_waited_for_and_charges_nobody(
    effects_url: str, redis_url: str, handler: Callable[..., Any]
) -> None:
    with wired(effects_url, redis_url) as (proxy, engine):
        run = Run(engine, handler)
        task = run.submit()
        cut = proxy.plan("pg_current_xact_id", Cut.BEFORE)
        assert run.run(task) == {}
        assert cut.happened.is_set()
        assert (run.state(task), run.effects()) == ("complete", [f"{task}/write"])


async def is_async(connection: psycopg.Connection) -> None:
    connection.execute("select 1")


def takes_none() -> None:
    """Nothing to write through."""


def takes_another(connection: int) -> int:
    return connection


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (is_async, "plain function"),
        (takes_none, 'takes a parameter "connection"'),
        (takes_another, "Session of SQLAlchemy"),
    ],
)
def test_a_handler_that_cannot_be_transactional_is_refused(handler: Callable[..., Any], said: str) -> None:
    template = TaskTemplate("tests/wrong", version="1.0.0")
    template.add_step(handler, name="write", transactional=True)
    with pytest.raises(TemplateError, match=said):
        assert template.definition


def test_only_a_transactional_step_has_a_connection() -> None:
    template = TaskTemplate("tests/wrong", version="1.0.0")
    template.add_step(by_psycopg, name="write")
    with pytest.raises(TemplateError, match="transactional=True"):
        assert template.definition


class Killed:
    """Kills this process at the n-th of the statements and commits of a transactional step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def arm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind, name in (
            (psycopg.Connection, "execute"),
            (psycopg.Cursor, "execute"),
            (psycopg.Connection, "commit"),
        ):
            monkeypatch.setattr(kind, name, self.around(getattr(kind, name)))

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.pass_by()
            answer = call(*arguments, **keywords)
            self.pass_by()
            return answer

        return counted

    def pass_by(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def writes_thrice(connection: psycopg.Connection, step: StepContext) -> str:
    for _ in range(3):
        by_psycopg(connection, step)
    return step.name


def killed_somewhere(run: Run, task: UUID, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run the enqueued step in a process that is killed at its `at`-th point; whether it got that far."""
    step, of = run.claim(task)
    child = os.fork()
    if child == 0:
        try:
            Killed(at).arm(monkeypatch)
            run.execute(step, of)
        except BaseException:  # noqa: BLE001 - whatever it is, this copy of the test must end here
            traceback.print_exc()
            os._exit(RAISED)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in {0, -signal.SIGKILL}, "the executor raised; its traceback is in what was printed"
    return ended != 0


def assert_effects_agree_under_kills(engine: Engine, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill at each point in turn: three effects for each completed step, none for any other."""
    run = Run(engine, writes_thrice)
    at, rounds = 1, 0
    for _ in range(kills):
        task = run.submit()
        if killed_somewhere(run, task, at, monkeypatch):
            engine.database.call(functions.stop_workers, [run.worker.id], None, "process_gone")
            assert take_back(engine) in {0, 1}
            run.worker.register()
            at += 1
        else:  # past the last point
            assert run.state(task) == "complete"
            at, rounds = 1, rounds + 1
        complete = run.column("select task_id || '/' || name from tasker.steps where state = 'complete'")
        assert run.effects() == sorted(3 * complete)
    assert rounds > 0, "no round of kills reached the end"
    assert complete, "no step was completed"
    assert run.effects(), "no step had an effect"
    assert run.column("select count(*) from tasker.invariant_violations()") == [0]


def test_effects_and_completed_steps_agree_whatever_is_killed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_effects_agree_under_kills(engine, KILLS, monkeypatch)


@pytest.mark.slow
def test_effects_and_completed_steps_agree_under_two_hundred_kills(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_effects_agree_under_kills(engine, MANY_KILLS, monkeypatch)


@pytest.mark.parametrize(
    ("where", "effects", "state"),
    [(Cut.BEFORE, 0, "enqueued"), (Cut.AFTER, 1, "complete"), (Cut.SILENCE, 1, "complete")],
    ids=["before", "after", "silence"],
)
def test_a_commit_without_an_answer_is_asked_about(  # noqa: PLR0917 - fixtures
    effects_url: str,
    redis_url: str,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    where: Cut,
    effects: int,
    state: str,
) -> None:
    monkeypatch.setattr("tasker.db.transaction.REPLY_GRACE_SECONDS", 0.1)
    with wired(effects_url, redis_url, statement_timeout_seconds=1) as (proxy, engine):
        run = Run(engine, by_psycopg)
        task = run.submit()
        assert engine.publisher.flush(10)
        redis_client.delete(QUEUE)
        cut = proxy.plan("COMMIT", where, nth=2)  # the first is in BEGIN … READ COMMITTED
        assert run.run(task) == {}
        assert cut.happened.is_set()
        assert (len(run.effects()), run.state(task)) == (effects, state)
        assert engine.publisher.flush(10)
        assert redis_client.llen(QUEUE) == 1, "the step that is given back, or what its completion set free"
