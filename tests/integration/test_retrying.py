"""Retrying what failed, as the command line does it, when the connection breaks at the wrong moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from tasker.domain.errors import StateConflict
from tasker.orchestration import operate
from tasker.orchestration.advance import finish
from tasker.orchestration.engine import Engine
from tests.integration.engine import HandPlayedWorker, complete, engine_on, states, steps, submit

R = TypeVar("R")


class LosesReplies(Engine):
    """The reply of each call is lost; by the time it is repeated, `meanwhile` has happened."""

    meanwhile: Callable[[], object]

    def run(self, function: Callable[..., R], *arguments: Any, **keywords: Any) -> R:
        super().run(function, *arguments, **keywords)
        self.meanwhile()
        return super().run(function, *arguments, **keywords)


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url) as engine:
        yield engine


@pytest.fixture
def worker(engine: Engine) -> HandPlayedWorker:
    return HandPlayedWorker(engine)


def fail(worker: HandPlayedWorker, ids: list[int]) -> None:
    failure = {"result": None, "error": {"type": "E", "message": ""}, "permanent": True}
    outcomes = [replace(complete(step), **failure) for step in worker.claim(ids)]  # type: ignore[arg-type]
    finish(worker.engine, outcomes, worker.id, None)


def test_a_lost_reply_makes_no_conflict_whatever_the_workers_did_meanwhile(
    engine: Engine, worker: HandPlayedWorker
) -> None:
    task, ids = submit(engine, *steps("waits", "runs", "ends"))
    fail(worker, ids)
    losing = LosesReplies(engine.database, engine.publisher, engine.settings)

    def meanwhile() -> None:
        worker.claim(ids[1:2])
        finish(engine, [complete(step) for step in worker.claim(ids[2:])], worker.id, None)

    losing.meanwhile = meanwhile
    assert operate.retry_task(losing, task, actor="ann", reason=None) == ids
    assert states(engine, task) == {
        "": "in_progress",
        "waits": "enqueued",
        "runs": "in_progress",
        "ends": "complete",
    }


def test_a_step_that_was_skipped_meanwhile_is_a_conflict(engine: Engine, worker: HandPlayedWorker) -> None:
    task, ids = submit(engine, *steps("a", "b"))
    fail(worker, ids)
    engine.database.call(
        lambda own: own.execute("select tasker.skip_steps(%s, 'ben', null, false)", [ids[:1]])
    )
    with pytest.raises(StateConflict, match=f"step {task}/a is skipped and cannot be retried"):
        operate.retry_steps(engine, ids, actor="ann", reason=None)
    assert states(engine, task)["b"] == "enqueued"


def test_what_runs_after_a_retry_of_long_ago_cannot_be_retried(
    engine: Engine, worker: HandPlayedWorker
) -> None:
    task, ids = submit(engine, *steps("a"))
    fail(worker, ids)
    operate.retry_task(engine, task, actor="ann", reason=None)
    with pytest.raises(StateConflict, match="has no step in error"):
        operate.retry_task(engine, task, actor="ann", reason=None)
    worker.claim(ids)
    with pytest.raises(StateConflict, match="a is in_progress and cannot be retried"):
        operate.retry_steps(engine, ids, actor="ann", reason=None)


def test_nothing_is_retried_of_a_task_without_failed_steps(engine: Engine) -> None:
    task, _ = submit(engine, *steps("a"))
    with pytest.raises(StateConflict, match=f"task {task} has no step in error"):
        operate.retry_task(engine, task, actor="ann", reason=None)
