"""top_up_queue: how far held steps are published, in which order, and when a gate closes and opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.sql.actions import cancel, republish
from tests.sql.beside import Beside
from tests.sql.protocol import HANDLER, QUEUE, Protocol, published, request

TENTH = 10


def gate_is_open(protocol: Protocol) -> bool:
    """As others see it."""
    row = protocol.row("select gate_open from tasker.queues where name = %s", [QUEUE])
    return bool(row["gate_open"])


def hold(protocol: Protocol, *priorities: int) -> list[int]:
    """The steps of tasks of these priorities, each a second later; held, as in a caller's transaction."""
    steps: list[int] = []
    for priority in priorities:
        steps.extend(protocol.steps(protocol.submit(priority=priority, joined=True)).values())
        protocol.pass_time(1)
    return steps


def run(protocol: Protocol) -> list[int]:
    """Workers run all that is published; its steps, in the order of publication."""
    rows = protocol.rows("select id from tasker.steps where enqueued_at is not null order by enqueued_at, id")
    steps = [row["id"] for row in rows]
    protocol.complete(*steps)
    return steps


@pytest.fixture
def slow(protocol: Protocol) -> Protocol:
    """One slot and a handler that takes 200 ms: there is room for two steps."""
    protocol.register("a")
    protocol.expect(**{HANDLER: 200})
    assert protocol.worker
    return protocol


def test_held_steps_fill_the_room_and_the_gate_closes_before_the_others(slow: Protocol) -> None:
    steps = hold(slow, 0, 0, 0)
    reply = slow.dispatch()
    assert (published(reply), reply["closed"]) == (steps[:2], 1)
    assert not gate_is_open(slow)
    again = slow.dispatch()
    assert (published(again), again["closed"]) == ([], 1)


def test_steps_of_a_closed_gate_follow_as_workers_take_what_is_published(slow: Protocol) -> None:
    steps = hold(slow, 0, 0, 0, 0)
    slow.dispatch()
    slow.claim(steps[0])
    assert published(slow.dispatch()) == [steps[2]]
    slow.claim(steps[1])
    assert published(slow.dispatch()) == [steps[3]]
    assert not gate_is_open(slow), "as much is published as may be"


def test_a_gate_opens_when_nothing_waits_and_half_of_the_room_is_free(slow: Protocol) -> None:
    steps = hold(slow, 0, 0, 0)
    slow.dispatch()
    slow.claim(steps[0])
    assert slow.dispatch()["closed"] == 1
    slow.claim(steps[1])
    assert slow.dispatch()["closed"] == 0
    assert gate_is_open(slow)
    task = slow.submit()
    assert slow.states(task) == {"a": "enqueued"}


def test_a_gate_closes_when_small_calls_together_have_published_enough(slow: Protocol) -> None:
    tasks = [slow.submit() for _ in range(5)]
    assert {state for task in tasks for state in slow.states(task).values()} == {"enqueued"}
    assert (slow.dispatch()["closed"], gate_is_open(slow)) == (1, False)
    assert slow.states(slow.submit()) == {"a": "ready"}
    slow.complete(*(step for task in tasks for step in slow.steps(task).values()))
    assert slow.dispatch()["moved"] == 1
    assert gate_is_open(slow)


def test_there_is_always_room_for_one_step_a_slot_however_slow(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.expect(**{HANDLER: 3_600_000})
    protocol.register_worker(slots=3)
    hold(protocol, 0, 0, 0, 0, 0)
    assert protocol.dispatch()["moved"] == 3


def test_the_limit_of_a_call_bounds_it_and_the_gate_stays_closed_for_the_rest(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.expect(**{HANDLER: 1})
    hold(protocol, *[0] * 5)
    moved = []
    while not moved or moved[-1]:
        reply = protocol.dispatch(limit=2)
        moved.append(reply["moved"])
        assert reply["closed"] == (reply["moved"] == 2)
    assert moved == [2, 2, 1, 0]


def test_an_urgent_step_goes_before_all_that_wait(slow: Protocol) -> None:
    hold(slow, *[0] * 8)
    slow.dispatch()
    (urgent,) = hold(slow, 50)
    run(slow)
    assert urgent in published(slow.dispatch())


def test_one_step_in_ten_is_the_one_that_has_waited_longest(slow: Protocol) -> None:
    low = hold(slow, *[-100] * 3)
    hold(slow, *[0] * 40)
    order = []
    while batch := published(slow.dispatch()):
        order.extend(sorted(batch, key=lambda step: slow.step(step)["enqueued_at"]))
        run(slow)
    assert [order.index(step) // TENTH for step in low] == [0, 1, 2]


def test_the_tenth_is_counted_on_even_when_there_is_room_for_one_step_a_call(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.expect(**{HANDLER: 60_000})
    (low,) = hold(protocol, -100)
    turns = 0
    while protocol.step(low)["state"] != "enqueued":
        turns += 1
        hold(protocol, 0, 0)
        assert protocol.dispatch()["moved"] == 1
        run_one = protocol.rows("select id from tasker.steps where enqueued_at is not null")
        if run_one[0]["id"] != low:
            protocol.complete(run_one[0]["id"])
        assert turns <= TENTH, "higher priorities keep coming, and the lowest never moves"
    assert turns == TENTH


def test_priorities_share_a_long_backlog_as_told(protocol: Protocol) -> None:
    """Of 200 steps dispatched, the oldest, which are of the lowest priority, get a tenth."""
    protocol.register("a")
    protocol.expect(**{HANDLER: 5})
    for priority in (-1, 5, 1):
        protocol.submit_all([request(priority=priority) for _ in range(100)], joined=True)
        protocol.pass_time(1)
    for _ in range(2):
        assert protocol.dispatch()["moved"] == 100
        run(protocol)
    done = protocol.rows("select priority from tasker.steps where state = 'complete'")
    assert Counter(row["priority"] for row in done) == {5: 100, 1: 80, -1: 20}


def test_a_step_cancelled_while_it_waited_leaves_no_hole(slow: Protocol) -> None:
    first, *others = hold(slow, 0, 0, 0)
    cancel(slow, slow.step(first)["task_id"])
    assert published(slow.dispatch()) == others


def test_a_step_that_somebody_holds_is_left_out_and_not_waited_for(
    open_session: Callable[[], Protocol],
) -> None:
    session, other = open_session(), open_session()
    session.register("a")
    steps = hold(session, 0, 0, 0)
    with other.connection.transaction():
        other.connection.execute("select from tasker.steps where id = %s for no key update", [steps[1]])
        assert published(session.dispatch()) == [steps[0], steps[2]]
    assert published(session.dispatch()) == [steps[1]]


def test_a_submit_that_found_the_gate_closed_is_dispatched_though_the_gate_was_opened_beside_it(
    open_session: Callable[[], Protocol],
) -> None:
    """The submit reads the gate, the coordinator opens it and sees nothing held, the submit commits."""
    session, coordinator = open_session(), open_session()
    session.register("a")
    session.close_gate()
    with session.connection.transaction():
        task = session.submit()
        assert coordinator.dispatch()["closed"] == 0
    assert session.states(task) == {"a": "ready"}
    assert coordinator.dispatch()["moved"] == 1


def test_a_pause_waits_for_a_dispatch_and_holds_what_is_left(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    coordinator, operator = open_session(), open_session()
    coordinator.register("a")
    coordinator.expect(**{HANDLER: 500})
    steps = hold(coordinator, 0, 0)
    with coordinator.connection.transaction():
        assert published(coordinator.dispatch()) == steps[:1]
        paused = beside.start_blocked(operator, coordinator, operator.pause_queue)
    paused.result()
    assert coordinator.dispatch()["moved"] == 0


def test_a_dispatch_does_not_wait_for_a_pause_under_way(open_session: Callable[[], Protocol]) -> None:
    coordinator, operator = open_session(), open_session()
    coordinator.register("a")
    steps = hold(coordinator, 0)
    with operator.connection.transaction():
        operator.pause_queue()
        assert coordinator.dispatch()["moved"] == 0
    assert coordinator.dispatch()["moved"] == 0
    operator.resume_queue()
    assert published(coordinator.dispatch()) == steps


def test_messages_lost_of_a_handler_that_nobody_has_keep_no_others_out(slow: Protocol) -> None:
    slow.register("a", name="gone", handler="gone")
    slow.expect(gone=400)
    for _ in range(3):
        slow.submit("gone")
    urgent = hold(slow, 100)
    for _ in range(10):
        slow.pass_time(60)
        assert republish(slow)["moved"] == 0, "nobody could run them"
        if published(slow.dispatch()) == urgent:
            break
    else:
        pytest.fail("a step that can run waits for ever")


def test_workers_that_come_and_go_move_the_bound(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.expect(**{HANDLER: 100})
    hold(protocol, *[0] * 30)
    assert protocol.dispatch()["moved"] == 5, "nobody serves the queue: that of one slot"
    worker = protocol.register_worker(slots=4)
    assert protocol.dispatch()["moved"] == 15
    protocol.call("stop_workers", [worker], None, "shutdown")
    assert (protocol.dispatch()["moved"], gate_is_open(protocol)) == (0, False)
    protocol.register_worker(slots=8)
    assert protocol.dispatch()["moved"] == 10
