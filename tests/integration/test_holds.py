"""Pausing, resuming and draining as the client, the command line and the API do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from queue import Queue
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasker.db import functions, holds
from tasker.domain.errors import QueueNotFound, StateConflict, WaitTimeout
from tasker.orchestration import operate
from tasker.orchestration.advance import finish
from tasker.orchestration.client import Tasker
from tasker.orchestration.engine import Engine
from tests.integration.engine import QUEUE, HandPlayedWorker, complete, engine_on, states, steps, submit

WHO = {"actor": "ann", "reason": "bank is closed"}
SECONDS = 10.0


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url) as engine:
        yield engine


def test_a_task_is_paused_in_the_middle_and_resumed(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, ids = submit(engine, *steps("a"), *steps("b", after="a"))
    (a,) = worker.claim(ids)
    operate.pause_task(engine, task, **WHO)
    operate.pause_task(engine, task, **WHO)
    finish(engine, [complete(a)], worker.id, None)
    assert states(engine, task) == {"": "paused", "a": "complete", "b": "ready"}
    hold = engine.database.call(holds.task_hold, task)
    assert hold is not None
    assert (hold.by, hold.because) == ("ann", "bank is closed")
    operate.resume_task(engine, task, actor=None, reason=None)
    operate.resume_task(engine, task, actor=None, reason=None)
    assert engine.database.call(holds.task_hold, task) is None
    dispatched = engine.run(functions.dispatch_steps, 10)
    finish(
        engine,
        [complete(step) for step in worker.claim([i for g in dispatched.publish for i in g[3]])],
        worker.id,
        None,
    )
    assert states(engine, task) == {"": "complete", "a": "complete", "b": "complete"}


def test_a_lost_race_is_a_conflict_that_names_the_state_found(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, ids = submit(engine, *steps("a"))
    finish(engine, [complete(step) for step in worker.claim(ids)], worker.id, None)
    for action in (operate.pause_task, operate.resume_task):
        with pytest.raises(StateConflict, match=f"task {task} is complete, and only a "):
            action(engine, task, **WHO)


def test_the_client_pauses_and_resumes(engine: Engine) -> None:
    task, _ = submit(engine, *steps("a"))
    client = Tasker(engine.settings)
    handle = client.task(task)
    assert handle.pause("bank is closed").state == "paused"
    assert handle.pause().state == "paused"
    assert "(bank is closed)" in " ".join(handle.why())
    assert handle.resume("bank is open").state == "in_progress"
    assert handle.resume().state == "in_progress"
    client.close()


def test_a_task_that_waits_for_its_time_cannot_be_paused(engine: Engine) -> None:
    submit(engine, *steps("a"))
    client = Tasker(engine.settings)
    (name,) = engine.database.call(lambda own: own.execute("select name from tasker.templates").fetchone())
    later = client.submit(f"tests/{name}", run_after=timedelta(hours=1))
    with pytest.raises(StateConflict, match="is pending, and only a task in progress can be paused"):
        later.pause()
    client.close()


def test_a_queue_tells_what_it_holds_and_who_paused_it(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    _, ids = submit(engine, *steps("a", "b"))
    worker.claim(ids[:1])
    found = operate.pause_queue(engine, QUEUE, **WHO)
    assert (found.paused_by, found.paused_because, found.held) == ("ann", "bank is closed", 0)
    assert (found.published, found.running, found.workers) == (1, 1, 1)
    submit(engine, *steps("c"))
    (found,) = engine.database.call(holds.list_queues)
    assert (found.name, found.held, found.heard_at) == (QUEUE, 1, None)
    assert operate.resume_queue(engine, QUEUE).paused_at is None


def test_an_unknown_queue_is_not_found_and_a_near_one_is_named(engine: Engine) -> None:
    submit(engine, *steps("a"))
    with pytest.raises(QueueNotFound, match=f'no queue "shopp"; did you mean "{QUEUE}"'):
        operate.pause_queue(engine, "shopp", **WHO)
    with pytest.raises(QueueNotFound):
        operate.resume_queue(engine, "shopp")


def drain(engine: Engine, tell: Callable[[int], None], seconds: float = SECONDS) -> Any:
    return operate.drain_queue(engine, QUEUE, **WHO, timeout_seconds=seconds, tell=tell)


def test_draining_ends_once_what_ran_has_ended_and_leaves_the_queue_paused(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, ids = submit(engine, *steps("a", "b"))
    claimed = worker.claim(ids[:1])
    told: Queue[int] = Queue()
    with ThreadPoolExecutor() as threads:
        drained = threads.submit(drain, engine, told.put)
        assert told.get(timeout=SECONDS) == 1
        assert worker.claim(ids[1:]) == []
        finish(engine, [complete(step) for step in claimed], worker.id, None)
        found = drained.result(SECONDS)
    assert (found.running, found.held, found.paused_by) == (0, 1, "ann")
    assert states(engine, task) == {"": "in_progress", "a": "complete", "b": "ready"}


def test_draining_waits_for_a_claim_that_was_under_way_before_the_pause(
    engine: Engine, database_url: str
) -> None:
    worker = HandPlayedWorker(engine)
    _, ids = submit(engine, *steps("a"))
    told: Queue[int] = Queue()
    with psycopg.connect(database_url) as slow, ThreadPoolExecutor() as threads:
        claims = functions.claim_steps(slow, ids, worker.id, uuid4(), moves=False)
        drained = threads.submit(drain, engine, told.put)
        assert told.get(timeout=SECONDS) == 0
        slow.commit()
        while told.get(timeout=SECONDS) == 0:
            pass
        finish(engine, [complete(step) for step in claims.steps], worker.id, None)
        assert drained.result(SECONDS).running == 0


def test_draining_too_long_says_what_runs_and_that_the_queue_stays_paused(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    _, ids = submit(engine, *steps("a"))
    worker.claim(ids)
    with pytest.raises(WaitTimeout, match="still running on queue shop after 0 s: 1; the queue stays paused"):
        drain(engine, lambda _: None, seconds=0)
    assert engine.database.call(holds.get_queue, QUEUE).paused_at is not None
