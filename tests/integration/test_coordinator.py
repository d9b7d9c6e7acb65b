"""The loops, called pass by pass: no threads, no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tasker.db import functions
from tasker.domain.outcomes import failed
from tasker.orchestration.advance import finish
from tasker.orchestration.coordinator import CROWDED_SECONDS, Coordinator
from tasker.orchestration.engine import Engine
from tasker.orchestration.recovery import Watch, time_out
from tests.integration.engine import HANDLER, QUEUE, HandPlayedWorker, engine_on, states, steps, submit


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    # 0 s of silence and grace stand for the defaults of 12 s and 5 s: two passes then count as that long
    with engine_on(database_url, redis_url, silence_seconds=1e-9, lost_message_seconds=1e-9) as made:
        yield made


def published(client: redis.Redis) -> Any:
    return client.llen(QUEUE)


def fail_once(engine: Engine, worker: HandPlayedWorker, roots: list[int]) -> None:
    outcomes = [failed(step, ValueError("no"), 0, 0, 1000) for step in worker.claim(roots)]
    finish(engine, outcomes, worker.id, None)


def test_a_retry_that_is_due_is_published_by_one_of_two_coordinators(
    engine: Engine, redis_client: redis.Redis
) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a"))
    assert engine.publisher.flush(10)
    redis_client.delete(QUEUE)
    fail_once(engine, worker, roots)
    assert states(engine, task)["a"] == "waiting_for_retry"

    first, second = (Coordinator(engine, lambda: None) for _ in range(2))
    assert first.start_due() == second.start_due() == engine.settings.coordinator_seconds
    assert engine.publisher.flush(10)
    assert states(engine, task)["a"] == "enqueued"
    assert published(redis_client) == 1
    assert not engine.database.call(functions.take_turn, "start_due", 60, None), "the first took the turn"


def test_while_a_queue_is_full_the_next_pass_comes_early(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    engine.database.call(functions.record_expectations, {HANDLER: 60_000})
    _, roots = submit(engine, *steps("a", "b", "c"))
    coordinator = Coordinator(engine, lambda: None)
    assert coordinator.start_due() == CROWDED_SECONDS
    worker.claim(roots)
    engine.database.call(lambda own: own.execute("delete from tasker.coordinator_loops"))
    assert coordinator.start_due() == engine.settings.coordinator_seconds


def test_one_pass_starts_all_that_there_is_room_for(database_url: str, redis_url: str) -> None:
    with engine_on(database_url, redis_url, coordinator_batch=1) as engine:
        HandPlayedWorker(engine)
        task, _ = submit(engine, *steps(*"abcdefghi"))
        hold = "update tasker.steps set state = 'ready', ready_at = enqueued_at, enqueued_at = null"
        engine.database.call(lambda own: own.execute(hold).rowcount)
        Coordinator(engine, lambda: None).start_due()
        assert set(states(engine, task).values()) == {"in_progress", "enqueued"}


def test_steps_of_a_worker_that_fell_silent_are_enqueued_again(
    engine: Engine, redis_client: redis.Redis
) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a"))
    worker.claim(roots)
    assert engine.publisher.flush(10)
    redis_client.delete(QUEUE)

    coordinator = Coordinator(engine, lambda: None)
    assert coordinator.recover_lost() == engine.settings.recovery_seconds
    assert states(engine, task)["a"] == "in_progress", "one look proves nothing"
    coordinator.recover_lost()
    assert engine.publisher.flush(10)
    assert states(engine, task)["a"] == "enqueued"
    assert published(redis_client) == 1


def test_a_beat_between_two_looks_keeps_a_worker_alive(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, roots = submit(engine, *steps("a"))
    worker.claim(roots)
    coordinator = Coordinator(engine, lambda: None)
    coordinator.recover_lost()
    engine.database.call(functions.beat_worker, worker.id, 1, {})
    coordinator.recover_lost()
    assert states(engine, task)["a"] == "in_progress"


def test_a_lost_message_is_published_again(engine: Engine, redis_client: redis.Redis) -> None:
    worker = HandPlayedWorker(engine)
    submit(engine, *steps("a"))
    assert engine.publisher.flush(10)
    redis_client.flushdb()
    engine.database.call(functions.beat_worker, worker.id, 1, {})

    Coordinator(engine, lambda: None).republish_lost()
    assert engine.publisher.flush(10)
    assert published(redis_client) == 1


def test_a_step_that_nobody_ever_claims_is_parked_and_its_task_settles(engine: Engine) -> None:
    worker = HandPlayedWorker(engine)
    task, _ = submit(engine, *steps("a"))
    engine.database.call(functions.beat_worker, worker.id, 1, {})
    coordinator = Coordinator(engine, lambda: None)
    for _ in range(6):
        assert engine.publisher.flush(10)  # it stamps anew what it sends late, and here everything is late
        engine.database.call(lambda own: own.execute("delete from tasker.coordinator_loops"))
        coordinator.republish_lost()
    assert states(engine, task) == {"": "error", "a": "error"}


def test_an_attempt_seen_far_beyond_its_time_is_ended_under_a_worker_that_lives(
    database_url: str, redis_url: str
) -> None:
    with engine_on(database_url, redis_url, timeout_grace_seconds=0) as engine:
        worker, watch = HandPlayedWorker(engine), Watch(1e-9, longest_gap_seconds=60)
        task, (late, early) = submit(engine, *steps("late", timeout_seconds=0.001), *steps("early"))
        (held,) = worker.claim([late])
        worker.claim([early])
        assert time_out(engine, watch) == 0, "it was not watched yet"
        assert time_out(engine, watch) == 1
        assert states(engine, task) == {
            "": "in_progress",
            "late": "waiting_for_retry",
            "early": "in_progress",
        }
        finish(engine, [failed(held, ValueError("no"), 0, 0, 1000)], worker.id, None)
        assert states(engine, task)["late"] == "waiting_for_retry", "what it reports afterwards is too late"


def test_what_missed_its_time_is_ended_by_one_of_two_coordinators(engine: Engine) -> None:
    late = submit(
        engine, *steps("late", start_within_seconds=0.001), *steps("early", start_within_seconds=60)
    )[0]
    task = submit(engine, *steps("a"))[0]
    query = "update tasker.tasks set deadline_at = tasker.clock() where id = %s"
    engine.database.call(lambda own: own.execute(query, [task]).rowcount)
    first, second = (Coordinator(engine, lambda: None) for _ in range(2))
    assert first.expire() == second.expire() == engine.settings.recovery_seconds
    assert states(engine, task) == {"": "error", "a": "error"}
    assert states(engine, late) == {"": "in_progress", "late": "error", "early": "enqueued"}
    assert not engine.database.call(functions.take_turn, "expire", 60, None), "the first took the turn"
