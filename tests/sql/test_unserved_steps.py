from __future__ import annotations

from datetime import timedelta

from tests.sql.actions import stop
from tests.sql.protocol import START, Protocol, Row


def unserved(protocol: Protocol) -> list[Row]:
    """The rows of unserved_steps."""
    return protocol.rows("select * from tasker.unserved_steps()")


def test_steps_that_a_live_worker_would_take_are_served(protocol: Protocol) -> None:
    protocol.register("a > b")
    protocol.submit()
    assert protocol.worker
    assert unserved(protocol) == []


def test_steps_of_a_queue_nobody_serves_are_counted_with_their_age(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    protocol.submit()
    protocol.pass_time(5)
    protocol.submit()
    assert unserved(protocol) == [
        {"queue": "celery", "handler": "work", "steps": 4, "oldest_at": START, "queue_served": False}
    ]


def test_steps_whose_handler_no_worker_of_the_queue_has_are_told_apart(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"handler": "rare"}})
    protocol.register_worker(queues=("elsewhere",), handlers=("rare",))
    steps = protocol.steps(protocol.submit())
    row = {"queue": "celery", "handler": "rare", "steps": 1, "oldest_at": START, "queue_served": True}
    assert protocol.worker
    assert unserved(protocol) == [row]
    protocol.pass_time(2)
    assert protocol.claim(steps["b"]).ids == []
    assert unserved(protocol) == [row | {"oldest_at": START + timedelta(seconds=2)}]


def test_held_steps_count_too(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.pause_queue()
    protocol.submit()
    assert [row["steps"] for row in unserved(protocol)] == [1]


def test_a_stopped_worker_serves_nobody(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit()
    stop(protocol, protocol.worker)
    assert [row["queue_served"] for row in unserved(protocol)] == [False]


def test_steps_that_may_not_run_yet_are_not_looked_at(protocol: Protocol) -> None:
    protocol.register("a > b")
    protocol.fail(protocol.steps(protocol.submit())["a"])
    stop(protocol, protocol.worker)
    protocol.submit(run_after_ms=60_000)
    assert unserved(protocol) == []
