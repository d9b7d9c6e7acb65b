"""republish_steps: messages that are lost go out again, those that only wait their turn do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.sql.actions import beat, cancel, recover, republish, retry, stop
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, published


def hear(session: Protocol, *, seconds_ago: float = 0, queue: str = QUEUE, free: int = 0) -> None:
    """The session's worker reports a message received from the queue that was published that long ago."""
    newest = session.now - timedelta(seconds=seconds_ago)
    beat(session, session.worker, free=free, received={queue: newest})


def test_a_step_overtaken_by_a_later_message_is_published_again(protocol: Protocol) -> None:
    protocol.register("a")
    lost = protocol.steps(protocol.submit())["a"]
    protocol.pass_time(5.5)
    protocol.submit()
    hear(protocol)
    reply = republish(protocol)
    assert reply["publish"] == [["celery", None, None, [lost]]]
    assert (reply["moved"], reply["unclaimable"]) == (1, [])
    row = protocol.step(lost)
    assert (row["state"], row["enqueued_at"], row["republished"]) == ("enqueued", protocol.now, 1)


@pytest.mark.parametrize("seconds", [4.9, 5.0])
def test_a_step_published_within_the_grace_before_the_newest_received_is_left_alone(
    protocol: Protocol, seconds: float
) -> None:
    protocol.register("a")
    protocol.submit()
    protocol.pass_time(seconds)
    hear(protocol)
    assert republish(protocol)["moved"] == 0


def test_a_long_backlog_before_a_busy_worker_is_not_doubled(protocol: Protocol) -> None:
    protocol.register("a")
    for _ in range(3):
        protocol.submit()
    for _ in range(5):
        protocol.pass_time(600)
        protocol.submit()
        beat(protocol, protocol.worker, free=0, received={QUEUE: START})
        assert republish(protocol)["publish"] == []


def test_a_long_backlog_before_a_worker_that_hears_it_is_not_doubled_by_the_probe(protocol: Protocol) -> None:
    protocol.register("a")
    for _ in range(3):
        protocol.submit()
        protocol.pass_time(100)
    hear(protocol, seconds_ago=300, free=1)
    protocol.pass_time(5)
    assert republish(protocol)["publish"] == []


def test_a_silent_queue_with_an_idle_worker_is_probed_with_its_oldest_steps(protocol: Protocol) -> None:
    protocol.register("a")
    steps: list[int] = []
    for _ in range(4):
        steps += protocol.steps(protocol.submit()).values()
        protocol.pass_time(1)
    hear(protocol, seconds_ago=60, free=2)
    protocol.pass_time(6)
    assert published(republish(protocol, probe=2)) == steps[:2]
    assert published(republish(protocol, probe=2)) == steps[2:]
    assert republish(protocol, probe=2)["moved"] == 0


def test_a_queue_never_heard_from_is_probed(protocol: Protocol) -> None:
    protocol.register("a")
    step = protocol.steps(protocol.submit())["a"]
    beat(protocol, protocol.worker, free=1)
    protocol.pass_time(5)
    assert republish(protocol)["moved"] == 0
    protocol.pass_time(0.1)
    assert published(republish(protocol)) == [step]


def test_after_a_flush_of_the_broker_the_probe_makes_the_others_overtaken(protocol: Protocol) -> None:
    protocol.register("a")
    steps = [protocol.steps(protocol.submit())["a"] for _ in range(6)]
    beat(protocol, protocol.worker, free=1)
    protocol.pass_time(6)
    windows = []
    for _ in range(4):
        windows.append(published(republish(protocol, probe=1, limit=2)))
        protocol.complete(*windows[-1])
        hear(protocol, free=1)
    assert windows == [steps[:1], steps[1:3], steps[3:5], steps[5:]]


def test_without_a_worker_that_is_idle_nothing_is_probed(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit()
    beat(protocol, protocol.worker, free=0)
    protocol.pass_time(60)
    assert republish(protocol)["moved"] == 0
    beat(protocol, protocol.worker, free=1)
    stop(protocol, protocol.worker)
    assert republish(protocol)["moved"] == 0


def test_an_idle_worker_of_another_queue_is_no_probe(protocol: Protocol) -> None:
    protocol.register("a", queue="slow")
    protocol.submit()
    beat(protocol, protocol.worker, free=1)
    protocol.pass_time(60)
    assert republish(protocol)["moved"] == 0


def test_a_step_whose_handler_no_live_worker_of_its_queue_has_is_left_alone(protocol: Protocol) -> None:
    protocol.register("a, b, c", steps={"b": {"handler": "rare"}, "c": {"queue": "slow", "handler": "rare"}})
    a, b, c = protocol.steps(protocol.submit()).values()
    beat(protocol, protocol.worker, free=1)
    other = protocol.register_worker(queues=["slow"], handlers=["rare"])
    gone = protocol.register_worker(handlers=["rare"])
    stop(protocol, gone)
    protocol.pass_time(6)
    assert published(republish(protocol)) == [a]
    beat(protocol, other, free=1)
    assert published(republish(protocol)) == [c]
    protocol.register_worker(handlers=["rare"])
    assert published(republish(protocol)) == [b]


def test_steps_that_nobody_can_run_do_not_stand_before_those_that_somebody_can(protocol: Protocol) -> None:
    protocol.register("a, b, c", steps={"a": {"handler": "rare"}, "b": {"handler": "rare"}})
    _, _, c = protocol.steps(protocol.submit()).values()
    beat(protocol, protocol.worker, free=1)
    protocol.pass_time(6)
    assert published(republish(protocol, probe=2)) == [c]


def test_a_pass_publishes_no_more_of_a_queue_than_its_limit_oldest_first(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"queue": "slow"}})
    worker = protocol.register_worker(queues=[QUEUE, "slow"])
    steps: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(3):
        for name, step in protocol.steps(protocol.submit()).items():
            steps[name].append(step)
        protocol.pass_time(1)
    protocol.pass_time(6)
    beat(protocol, worker, received={QUEUE: protocol.now, "slow": protocol.now})
    assert published(republish(protocol, limit=2)) == sorted(steps["a"][:2] + steps["b"][:2])
    assert published(republish(protocol, limit=2)) == sorted(steps["a"][2:] + steps["b"][2:])


def test_each_publication_waits_twice_as_long_for_the_next(protocol: Protocol) -> None:
    protocol.register("a")
    step = protocol.steps(protocol.submit())["a"]
    for seconds in (5, 10, 20, 40, 80):
        protocol.pass_time(seconds)
        hear(protocol)
        assert republish(protocol)["moved"] == 0
        protocol.pass_time(0.1)
        hear(protocol)
        assert published(republish(protocol)) == [step]


def test_a_step_that_five_publications_did_not_get_claimed_is_unclaimable(protocol: Protocol) -> None:
    protocol.register("a")
    step = protocol.steps(protocol.submit())["a"]
    for _ in range(5):
        protocol.pass_time(200)
        hear(protocol, free=1)
        assert published(republish(protocol)) == [step]
    protocol.pass_time(200)
    hear(protocol, free=1)
    reply = republish(protocol)
    assert (reply["moved"], reply["unclaimable"], reply["publish"]) == (0, [step], [])
    assert protocol.step(step)["state"] == "enqueued"


def test_while_all_workers_are_busy_a_message_may_wait_in_one_and_no_step_is_given_up(
    protocol: Protocol,
) -> None:
    protocol.register("a")
    step = protocol.steps(protocol.submit())["a"]
    for _ in range(8):
        protocol.pass_time(3600)
        hear(protocol, free=0)
        reply = republish(protocol)
        assert (published(reply), reply["unclaimable"]) == ([step], [])


@pytest.mark.parametrize("how", ["claim and release", "claim and loss"])
def test_a_claim_shows_that_messages_arrive(protocol: Protocol, how: str) -> None:
    protocol.register("a")
    step = protocol.steps(protocol.submit())["a"]
    protocol.pass_time(6)
    hear(protocol)
    republish(protocol)
    won = protocol.claim(step)
    if how == "claim and release":
        protocol.release(won)
    else:
        stop(protocol, protocol.worker)
        recover(protocol)
    assert protocol.step(step)["republished"] == 0


def test_being_given_back_for_a_missing_handler_is_no_lost_message(protocol: Protocol) -> None:
    protocol.register("a", handler="rare")
    step = protocol.steps(protocol.submit())["a"]
    able = protocol.register_worker(handlers=["rare"])
    for _ in range(6):
        assert protocol.claim(step).reply["given_back"] == [step]
        protocol.pass_time(60)
        protocol.due()
        protocol.dispatch()
    protocol.pass_time(6)
    beat(protocol, able, received={QUEUE: protocol.now})
    assert published(republish(protocol)) == [step]


def test_steps_that_are_not_enqueued_have_no_message_to_lose(protocol: Protocol) -> None:
    protocol.register("a, b, c, d > e")
    task, cancelled = protocol.submit(), protocol.submit()
    a, b, c, d, _ = protocol.steps(task).values()
    cancel(protocol, cancelled)
    protocol.claim(a)
    protocol.fail(b)
    protocol.fail(c, permanent=True)
    protocol.complete(d)
    protocol.pass_time(60)
    hear(protocol, free=1)
    assert republish(protocol)["moved"] == 0
    retry(protocol, c)
    protocol.pass_time(60)
    hear(protocol, free=1)
    assert published(republish(protocol)) == [c]


def test_nothing_is_logged(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    protocol.pass_time(6)
    hear(protocol)
    before = protocol.log(task)
    assert republish(protocol)["moved"] == 1
    assert protocol.log(task) == before


def test_a_repeat_finds_the_publication_times_fresh(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit()
    protocol.pass_time(6)
    hear(protocol)
    assert [republish(protocol)["moved"] for _ in range(2)] == [1, 0]


def test_a_step_that_is_being_claimed_is_not_waited_for(open_session: Callable[[], Protocol]) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a, b")
    a, b = worker.steps(worker.submit()).values()
    coordinator.pass_time(6)
    hear(coordinator)
    with worker.connection.transaction():
        assert worker.claim(a).ids == [a]
        assert published(republish(coordinator)) == [b]
    assert worker.step(a)["state"] == "in_progress"


def test_a_claim_waits_for_the_republication_and_wins_the_step(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    coordinator.pass_time(6)
    hear(coordinator)
    with coordinator.connection.transaction():
        assert published(republish(coordinator)) == [a]
        claim = beside.start_blocked(worker, coordinator, lambda: worker.claim(a, worker=worker.worker))
    assert claim.result().ids == [a]
    assert worker.step(a)["enqueued_at"] is None
