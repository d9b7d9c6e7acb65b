"""park_steps: a step that no publication gets claimed ends in error instead of being published for ever."""

from __future__ import annotations

from collections.abc import Callable

from tests.sql.actions import beat, cancel, park, republish, retry
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, Protocol, published


def give_up(session: Protocol) -> list[int]:
    """Publish again what nobody claims until republish_steps gives it up; returns what it gives up."""
    for _ in range(6):
        session.pass_time(200)
        beat(session, session.worker, free=1, received={QUEUE: session.now})
        reply = republish(session)
    unclaimable: list[int] = reply["unclaimable"]
    return unclaimable


def test_an_unclaimable_step_becomes_an_error_and_its_task_settles(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    assert give_up(protocol) == [a]
    reply = park(protocol, a, moves=True)
    assert reply["moved"] == 1
    assert [(move["step"], move["to"], move["reason"]) for move in reply["moves"]] == [
        ("a", "error", "unclaimable"),
        (None, "error", None),
    ]
    assert protocol.states(task) == {"a": "error", "b": "pending"}
    assert protocol.counters(task) == ("error", 2, 0, 1)
    assert protocol.attempts(a) == []


def test_independent_branches_run_on(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(b)
    give_up(protocol)
    park(protocol, a)
    assert protocol.counters(task) == ("in_progress", 2, 1, 1)
    protocol.finish(won.complete())
    assert protocol.counters(task) == ("error", 1, 0, 1)


def test_a_message_that_arrives_after_all_claims_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    give_up(protocol)
    park(protocol, a)
    assert protocol.claim(a).ids == []


def test_a_retry_brings_it_back_with_all_its_publications(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    give_up(protocol)
    park(protocol, a)
    assert published(retry(protocol, a)) == [a]
    assert protocol.step(a)["republished"] == 0
    protocol.complete(a)
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_a_claim_that_came_first_wins(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    give_up(protocol)
    won = protocol.claim(a)
    assert park(protocol, a)["moved"] == 0
    protocol.finish(won.complete())
    assert park(protocol, a)["moved"] == 0
    assert protocol.step(a)["state"] == "complete"


def test_a_step_claimed_and_given_back_meanwhile_is_not_parked(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    give_up(protocol)
    protocol.release(protocol.claim(a))
    assert park(protocol, a)["moved"] == 0
    assert protocol.step(a)["state"] == "enqueued"


def test_a_claim_that_waits_for_the_parking_wins_nothing(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    own = worker.worker
    give_up(coordinator)
    with coordinator.connection.transaction():
        assert park(coordinator, a)["moved"] == 1
        claim = beside.start_blocked(worker, coordinator, lambda: worker.claim(a, worker=own))
    assert claim.result().ids == []


def test_a_parking_that_waits_for_a_claim_moves_nothing(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    give_up(coordinator)
    with worker.connection.transaction():
        assert worker.claim(a).ids == [a]
        parking = beside.start_blocked(coordinator, worker, lambda: park(coordinator, a))
    assert parking.result()["moved"] == 0
    assert worker.step(a)["state"] == "in_progress"


def test_a_repeat_and_a_cancelled_task_park_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    cancelled, parked = protocol.submit(), protocol.submit()
    a, b = protocol.steps(cancelled)["a"], protocol.steps(parked)["a"]
    assert give_up(protocol) == [a, b]
    cancel(protocol, cancelled)
    assert park(protocol, a, b)["moved"] == 1
    assert park(protocol, a, b)["moved"] == 0
    assert protocol.counters(cancelled) == ("cancelled", 0, 0, 0)
    assert protocol.counters(parked) == ("error", 1, 0, 1)
