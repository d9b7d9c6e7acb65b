"""queue_room and step_cost: how much work of a queue may be published, and how much is."""

from __future__ import annotations

import pytest

from tests.sql.actions import stop
from tests.sql.protocol import HANDLER, QUEUE, Protocol, published, request


def room(protocol: Protocol, queue: str = QUEUE) -> tuple[float, float]:
    """The bound and what is published, in ms."""
    row = protocol.row("select * from tasker.queue_room(%s)", [queue])
    return row["bound_ms"], row["published_ms"]


@pytest.mark.parametrize(
    ("expected_ms", "cost"), [(None, 15.625), (0, 0.1), (0.05, 0.1), (7, 7), (500, 500), (60_000, 500)]
)
def test_a_step_costs_what_its_handler_takes_within_limits(
    protocol: Protocol, expected_ms: float | None, cost: float
) -> None:
    row = protocol.row("select tasker.step_cost(%s::real) as ms", [expected_ms])
    assert row["ms"] == pytest.approx(cost)


def test_half_a_second_for_each_slot_of_the_live_workers_may_be_published(protocol: Protocol) -> None:
    protocol.register("a")
    assert room(protocol) == (500, 0)
    first = protocol.register_worker(slots=2)
    protocol.register_worker(slots=3, queues=[QUEUE, "slow"])
    protocol.register_worker(parent=first, kind="child")
    assert (room(protocol), room(protocol, "slow")) == ((2500, 0), (1500, 0))
    stop(protocol, first)
    assert room(protocol) == (1500, 0)


def test_what_is_published_counts_by_its_handlers_and_what_is_claimed_or_held_does_not(
    protocol: Protocol,
) -> None:
    protocol.register(
        "a, b, c, d", steps={"b": {"handler": "slow"}, "c": {"handler": "new"}, "d": {"queue": "slow"}}
    )
    protocol.expect(**{HANDLER: 20, "slow": 9000})
    assert protocol.worker
    protocol.register_worker(handlers=[HANDLER, "slow", "new"])
    first = protocol.submit()
    assert room(protocol) == (1000, pytest.approx(20 + 500 + 15.625))
    protocol.submit()
    protocol.submit(joined=True)
    assert room(protocol) == (1000, pytest.approx(2 * (20 + 500 + 15.625)))
    protocol.claim(protocol.steps(first)["a"])
    assert room(protocol) == (1000, pytest.approx(20 + 2 * (500 + 15.625)))


def test_what_no_live_worker_can_run_takes_no_room_unless_there_is_none_at_all(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"handler": "gone"}})
    protocol.expect(**{HANDLER: 20, "gone": 400})
    protocol.submit()
    assert room(protocol) == (500, 420)
    worker = protocol.register_worker()
    assert room(protocol) == (500, 20)
    stop(protocol, worker)
    assert room(protocol) == (500, 420)


def test_twenty_thousand_published_steps_are_full_whatever_they_cost(protocol: Protocol) -> None:
    protocol.register(", ".join(f"s{number}" for number in range(2_000)))
    protocol.expect(**{HANDLER: 0.1})
    protocol.register_worker(slots=1_000)
    # undone, since it takes long to see that so many steps are sound
    with protocol.connection.transaction(force_rollback=True):
        assert len(published(protocol.submit_all([request() for _ in range(9)]))) == 18_000
        assert room(protocol) == (500_000, pytest.approx(1_800))
        protocol.submit_all([request() for _ in range(2)])
        assert room(protocol) == (500_000, 500_000)
