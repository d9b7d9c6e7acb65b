"""Lifecycle events through a real engine: each transition is told once, after its commit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tasker.db import functions
from tasker.domain.error_data import describe
from tasker.domain.outcomes import Outcome
from tasker.domain.replies import ClaimedStep
from tasker.domain.retry import Retry
from tasker.events.catalogue import EVENT_NAMES, Event
from tasker.events.signals import off, on
from tasker.orchestration import operate
from tasker.orchestration.advance import finish
from tasker.orchestration.engine import Engine
from tests.integration.engine import HandPlayedWorker, complete, engine_on, steps, submit

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url) as engine:
        yield engine


@pytest.fixture
def told() -> Iterator[list[Event]]:
    """Every event of the catalogue, in the order in which this process was told."""
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)

    for name in EVENT_NAMES:
        on(name)(hear)
    yield events
    for name in EVENT_NAMES:
        off(name, hear)


@pytest.fixture
def worker(engine: Engine) -> HandPlayedWorker:
    return HandPlayedWorker(engine)


def names(told: list[Event]) -> list[str]:
    """What was told since the last call: `event step`."""
    found = [f"{event.name} {event.step}" if event.step else event.name for event in told]
    told.clear()
    return found


def fail(step: ClaimedStep) -> Outcome:
    """The step's handler raised."""
    at = time.monotonic()
    return Outcome(step, at, at, error=describe(RuntimeError("no"), 1000))


def run(engine: Engine, worker: HandPlayedWorker, ids: list[int]) -> None:
    """Claim steps and complete them."""
    finish(engine, [complete(step) for step in worker.claim(ids)], worker.id, None)


def test_a_task_tells_its_whole_life_in_order(
    engine: Engine, worker: HandPlayedWorker, told: list[Event]
) -> None:
    _, ids = submit(engine, *steps("first"), *steps("second", after="first"))
    assert names(told) == ["task.created", "step.enqueued first"]

    claimed = worker.claim(ids)
    assert names(told) == ["step.started first"]

    finish(engine, [complete(step) for step in claimed], worker.id, None)
    assert names(told) == ["step.completed first", "step.enqueued second"]


def test_a_failing_step_tells_of_its_retry_its_failure_and_its_second_life(
    engine: Engine, worker: HandPlayedWorker, told: list[Event]
) -> None:
    policy = Retry(max_attempts=2, backoff="none")
    task, ids = submit(engine, *steps("only", retry=policy))
    names(told)

    finish(engine, [fail(step) for step in worker.claim(ids)], worker.id, None)
    assert names(told) == ["step.started only", "step.retry_scheduled only"]
    engine.run(functions.due_steps, 10)
    assert names(told) == ["step.enqueued only"]
    finish(engine, [fail(step) for step in worker.claim(ids)], worker.id, None)
    assert names(told) == ["step.started only", "step.failed only", "task.failed"]
    operate.retry_task(engine, task, actor="ann", reason="fixed")
    assert {event.actor for event in told} == {"ann"}
    assert "fixed" in {event.reason for event in told}
    assert sorted(names(told)) == ["step.enqueued only", "task.retried"]
    run(engine, worker, ids)
    assert names(told) == ["step.started only", "step.completed only", "task.completed"]


def test_a_released_step_and_a_cancelled_task_are_told_of(
    engine: Engine, worker: HandPlayedWorker, told: list[Event]
) -> None:
    task, ids = submit(engine, *steps("only"))
    (step,) = worker.claim(ids)
    names(told)
    engine.run(functions.release_steps, [step.id], step.claim)
    assert names(told) == ["step.returned only"]
    operate.cancel_task(engine, task, actor=None, reason=None)
    assert sorted(names(told)) == ["step.cancelled only", "task.cancelled"]


def test_events_are_the_log_row_by_row(engine: Engine, worker: HandPlayedWorker, told: list[Event]) -> None:
    task, ids = submit(engine, *steps("first"), *steps("left", "right", after="first"))
    run(engine, worker, ids)
    operate.cancel_task(engine, task, actor="ann", reason="no longer needed")

    query = "select seq, from_state, to_state, attempt, actor, reason from tasker.transitions order by seq"
    log = engine.database.call(lambda own: own.execute(query).fetchall())
    assert log == [
        (event.seq, event.from_state, event.to_state, event.attempt, event.actor, event.reason)
        for event in sorted(told, key=lambda event: event.seq)
    ]
    assert {event.task_id for event in told} == {str(task)}


def test_a_receiver_sees_what_it_is_told_of_committed(engine: Engine, connection: Connection) -> None:
    seen: list[str] = []

    def look(event: Event) -> None:
        row = connection.execute("select state from tasker.tasks where id = %s", [event.task_id]).fetchone()
        seen.append(row[0] if row else "nothing")

    on("task.created")(look)
    try:
        submit(engine, *steps("only"))
    finally:
        off("task.created", look)
    assert seen == ["in_progress"]


def test_a_repeated_call_tells_nothing_twice(
    engine: Engine, worker: HandPlayedWorker, told: list[Event]
) -> None:
    _, ids = submit(engine, *steps("only"))
    outcomes = [complete(step) for step in worker.claim(ids)]
    finish(engine, outcomes, worker.id, None)
    names(told)
    finish(engine, outcomes, worker.id, None)
    assert worker.claim(ids) == []
    assert names(told) == []


def test_a_receiver_that_raises_delays_no_step_and_hides_nothing_from_others(
    engine: Engine, worker: HandPlayedWorker, told: list[Event], connection: Connection
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError(event.name)

    on("step.completed")(broken)
    try:
        task, ids = submit(engine, *steps("only"))
        run(engine, worker, ids)
    finally:
        off("step.completed", broken)
    assert names(told)[-2:] == ["step.completed only", "task.completed"]
    assert connection.execute("select state from tasker.tasks where id = %s", [task]).fetchone() == (
        "complete",
    )
