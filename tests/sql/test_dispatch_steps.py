"""dispatch_steps: held steps start in order of priority and age once nothing holds them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from tests.sql.actions import cancel, skip
from tests.sql.protocol import QUEUE, Protocol, published


def hold(protocol: Protocol, *priorities: int, queue: str = QUEUE, seconds: float = 0) -> list[int]:
    """The steps of tasks of these priorities, submitted `seconds` apart while their queue is paused."""
    protocol.pause_queue(queue)
    steps: list[int] = []
    for priority in priorities:
        steps.extend(protocol.steps(protocol.submit(priority=priority)).values())
        protocol.pass_time(seconds)
    protocol.resume_queue(queue)
    return steps


def dispatched(protocol: Protocol) -> list[int]:
    """The steps in the order in which they are dispatched, one a pass."""
    order = []
    while batch := published(protocol.dispatch(limit=1)):
        order.extend(batch)
    return order


def test_a_held_step_is_enqueued_when_nothing_holds_it(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit(joined=True)
    a = protocol.steps(task)["a"]
    protocol.pass_time(1)
    reply = protocol.dispatch(moves=True)
    assert reply["publish"] == [[QUEUE, None, None, [a]]]
    assert [(move["step"], move["from"], move["to"]) for move in reply["moves"]] == [
        ("a", "ready", "enqueued")
    ]
    step = protocol.step(a)
    assert (step["state"], step["ready_at"], step["enqueued_at"]) == ("enqueued", None, protocol.now)
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)


def test_higher_priority_goes_first_and_then_the_older(protocol: Protocol) -> None:
    protocol.register("a")
    low, high, middle, high_later, low_later = hold(protocol, -5, 10, 0, 10, -5, seconds=1)
    assert dispatched(protocol) == [high, high_later, middle, low, low_later]


def test_a_steps_own_priority_adds_to_its_tasks(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"priority": 20}})
    a_high, b_high, a_low, b_low = hold(protocol, 10, 0)
    assert dispatched(protocol) == [b_high, b_low, a_high, a_low]


def test_the_limit_counts_for_each_queue(protocol: Protocol) -> None:
    protocol.register("a, b, c, d", steps={"c": {"queue": "slow"}, "d": {"queue": "slow"}})
    task = protocol.submit(joined=True)
    a, b, c, d = protocol.steps(task).values()
    assert sorted((queue, ids) for queue, _, _, ids in protocol.dispatch(limit=1)["publish"]) == [
        (QUEUE, [a]),
        ("slow", [c]),
    ]
    assert protocol.dispatch(limit=5)["moved"] == 2
    assert [protocol.step(step)["state"] for step in (b, d)] == ["enqueued", "enqueued"]


def test_a_paused_queue_keeps_its_steps_whatever_its_gate(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"queue": "paused"}})
    task = protocol.submit(joined=True)
    a, b = protocol.steps(task).values()
    protocol.pause_queue("paused")
    protocol.close_gate("paused")
    assert published(protocol.dispatch()) == [a]
    protocol.open_gate("paused")
    assert published(protocol.dispatch()) == []
    protocol.resume_queue("paused")
    assert published(protocol.dispatch()) == [b]


def test_a_step_skipped_or_cancelled_while_it_was_held_is_not_dispatched(protocol: Protocol) -> None:
    protocol.register("a, b")
    cancelled, skipped = protocol.submit(joined=True), protocol.submit(joined=True)
    a, b = protocol.steps(skipped).values()
    cancel(protocol, cancelled)
    skip(protocol, a)
    assert published(protocol.dispatch()) == [b]


def test_a_repeat_finds_nothing_held(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit(joined=True)
    assert protocol.dispatch()["moved"] == 1
    reply = protocol.dispatch(moves=True)
    assert (reply["moved"], reply["publish"], reply["moves"]) == (0, [], [])


def test_of_two_coordinators_one_fills_a_queue_and_the_other_does_not_wait_for_it(
    open_session: Callable[[], Protocol],
) -> None:
    first, second = open_session(), open_session()
    first.register("a")
    steps = hold(first, 3, 2, 1)
    with first.connection.transaction():
        assert published(first.dispatch(limit=2)) == steps[:2]
        assert published(second.dispatch(limit=2)) == []
    assert published(second.dispatch()) == steps[2:]


def test_roots_are_not_dispatched_before_their_transaction_commits(
    open_session: Callable[[], Protocol],
) -> None:
    caller, coordinator = open_session(), open_session()
    caller.register("a")
    tasks: list[UUID] = []
    with caller.connection.transaction():
        tasks.append(caller.submit(joined=True))
        assert coordinator.dispatch()["moved"] == 0
    assert published(coordinator.dispatch()) == [caller.steps(tasks[0])["a"]]
