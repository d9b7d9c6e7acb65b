"""Outcomes reach the database whatever stands in the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from tasker.db import functions
from tasker.domain.errors import WorkerStopped
from tasker.orchestration.advance import finish
from tasker.orchestration.engine import Engine
from tests.integration.engine import HandPlayedWorker, complete, engine_on, states, steps, submit

KEEP = {"queue": "shop", "budget_ms": 50, "max": 64}


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url) as made:
        yield made


def test_what_a_worker_keeps_is_returned_and_the_rest_is_published(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    _, roots = submit(engine, *steps("a"), *steps("b", "c", after="a"))
    kept = finish(engine, [complete(step) for step in worker.claim(roots)], worker.id, KEEP)
    assert [step.name for step in kept] == ["b"]
    assert kept[0].results == {"a": 1}


def test_one_value_that_postgresql_refuses_fails_its_own_step_only(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a", "b", "c", "d", "e"))
    claimed = worker.claim(roots)
    poison = {"c": '"\\u0000"'}
    finish(engine, [complete(step, poison.get(step.name, "1")) for step in claimed], worker.id, None)
    assert states(engine, task) == {
        "": "error", "a": "complete", "b": "complete", "c": "error", "d": "complete", "e": "complete"
    }  # fmt: skip
    found = engine.database.call(functions.step_results, task, ["c"])
    assert "PostgreSQL refused the values" in found["c"]["error"]["message"]


def test_outcomes_are_held_while_the_database_is_away_and_recorded_once_it_is_back(
    engine: Engine, database_url: str, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a"), *steps("b", after="a"))
    outcomes = [complete(step) for step in worker.claim(roots)]
    name = sql.Identifier(urlsplit(database_url).path.removeprefix("/"))
    admin.execute(sql.SQL("alter database {} allow_connections false").format(name))
    admin.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s",
        [name.as_string()[1:-1]],
    )
    kept = []
    waiting = threading.Thread(target=lambda: kept.extend(finish(engine, outcomes, worker.id, KEEP)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive(), "finish gave up though nothing was recorded"
    admin.execute(sql.SQL("alter database {} allow_connections true").format(name))
    waiting.join(30)
    assert [step.name for step in kept] == ["b"]
    assert states(engine, task) == {"": "in_progress", "a": "complete", "b": "in_progress"}


def test_outcomes_are_held_while_a_migration_has_taken_a_function_away(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a"))
    outcomes = [complete(step) for step in worker.claim(roots)]
    rename = "alter function tasker.%s rename to %s"
    engine.database.call(lambda own: own.execute(rename % ("advance_tasks", "replaced")))
    waiting = threading.Thread(target=finish, args=(engine, outcomes, worker.id, None))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive(), "finish gave up though nothing was recorded"
    engine.database.call(lambda own: own.execute(rename % ("replaced", "advance_tasks")))
    waiting.join(30)
    assert states(engine, task) == {"": "complete", "a": "complete"}


def test_a_worker_taken_for_dead_may_not_keep_but_its_outcome_counts_until_recovery(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a"))
    outcomes = [complete(step) for step in worker.claim(roots)]
    engine.database.call(functions.stop_workers, [worker.id], None, "silent")
    with pytest.raises(WorkerStopped, match="register anew"):
        finish(engine, outcomes, worker.id, KEEP)
    assert states(engine, task)["a"] == "in_progress"
    assert finish(engine, outcomes, worker.id, None) == []
    assert states(engine, task) == {"": "complete", "a": "complete"}
