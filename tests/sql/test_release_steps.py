"""release_steps: steps claimed but not begun go back, without a trace of failure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.sql.actions import cancel
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, Won, published


def test_a_released_step_is_enqueued_again_and_published(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a, b)
    protocol.pass_time(1)
    reply = protocol.release(won, a)
    assert reply["publish"] == [[QUEUE, None, None, [a]]]
    step = protocol.step(a)
    assert (step["state"], step["attempt"], step["failures"], step["losses"]) == ("enqueued", 1, 0, 0)
    assert step["enqueued_at"] == START + timedelta(seconds=1)
    assert protocol.step(b)["state"] == "in_progress"
    (attempt,) = protocol.attempts(a)
    assert (attempt["outcome"], attempt["started_at"]) == ("released", None)
    assert attempt["finished_at"] == START + timedelta(seconds=1)
    assert protocol.counters(task) == ("in_progress", 2, 2, 0)
    logged = protocol.row(
        "select from_state, to_state, reason from tasker.transitions order by seq desc limit 1"
    )
    assert logged == {"from_state": "in_progress", "to_state": "enqueued", "reason": "released"}


def test_a_released_step_is_claimed_anew_by_anybody(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.release(protocol.claim(a))
    other = protocol.register_worker()
    won = protocol.claim(a, worker=other)
    assert (won.only.row["attempt"], won.only.row["failures"]) == (2, 0)
    protocol.finish(won.complete())
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_only_steps_of_the_claim_are_released(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    a, b, c = protocol.steps(protocol.submit()).values()
    mine, theirs = protocol.claim(a), protocol.claim(b)
    assert published(protocol.release(mine, a, b, c)) == [a]
    assert protocol.step(b)["claim_id"] == theirs.claim_id
    assert [protocol.step(step)["state"] for step in (b, c)] == ["in_progress", "pending"]
    assert published(protocol.release(Won({"steps": []}, uuid4()), a, b)) == []


@pytest.mark.parametrize(("hold", "seen"), [("pause_queue", True), ("pause_task", False)])
def test_a_released_step_that_is_held_becomes_ready(protocol: Protocol, hold: str, *, seen: bool) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    if hold == "pause_task":
        protocol.pause_task(task)
    else:
        getattr(protocol, hold)()
    assert published(protocol.release(won)) == []
    step = protocol.step(a)
    assert (step["state"], step["ready_at"], step["enqueued_at"]) == ("ready", START if seen else None, None)


def test_a_released_step_has_had_its_turn_and_a_closed_gate_does_not_take_it_away(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    protocol.close_gate()
    assert published(protocol.release(won)) == [a]
    assert protocol.step(a)["state"] == "enqueued"


def test_a_step_finished_or_cancelled_is_not_brought_back(protocol: Protocol) -> None:
    protocol.register("a")
    tasks = [protocol.submit() for _ in range(3)]
    steps = [protocol.steps(task)["a"] for task in tasks]
    won = protocol.claim(*steps)
    protocol.finish([won.attempts[steps[0]].complete(), won.attempts[steps[1]].fail()])
    cancel(protocol, tasks[2])
    assert published(protocol.release(won)) == []
    assert [protocol.step(step)["state"] for step in steps] == ["complete", "waiting_for_retry", "cancelled"]


def test_a_repeat_publishes_again_what_nobody_has_claimed_since(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a, b)
    first = protocol.release(won)
    log = protocol.log(task)
    assert published(first) == [a, b]
    assert protocol.release(won) == first
    assert protocol.log(task) == log

    protocol.claim(a)
    assert published(protocol.release(won)) == [b]


def test_a_repeat_beside_the_running_first_call_waits_and_returns_the_same_rows(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a, b")
    a, b = first.steps(first.submit()).values()
    won = first.claim(a, b)
    with first.connection.transaction():
        reply = first.release(won)
        repeat = beside.start_blocked(second, first, lambda: second.release(won, b, a))
    assert repeat.result() == reply
    assert published(reply) == [a, b]


def test_a_step_kept_for_its_worker_alone_travels_alone_after_its_release(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.connection.execute("update tasker.steps set alone = true where id = %s", [a])
    assert protocol.release(protocol.claim(a))["publish"] == [[QUEUE, None, 1, [a]]]


def test_the_moves_are_reported_when_asked_for(protocol: Protocol) -> None:
    protocol.register("a")
    won = protocol.claim(*protocol.steps(protocol.submit()).values())
    moves = protocol.release(won, moves=True)["moves"]
    assert [(move["step"], move["to"], move["reason"]) for move in moves] == [("a", "enqueued", "released")]
