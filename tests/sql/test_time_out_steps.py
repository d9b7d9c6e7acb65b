"""time_out_steps: attempts that their workers leave open far beyond their time are ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasker.domain.errors import StepTimeout, TaskerError
from tasker.domain.retry import Retry
from tests.sql.actions import cancel, time_out
from tests.sql.beside import Beside
from tests.sql.protocol import Protocol, published


def test_an_attempt_alone_in_its_claim_fails_and_its_late_outcome_is_refused(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    reply = time_out(protocol, {a: 1})
    assert (reply["moved"], reply["publish"]) == (1, [])
    assert (protocol.step(a)["state"], protocol.step(a)["failures"]) == ("waiting_for_retry", 1)
    assert protocol.finish(won.complete(7)).reply["refused"] == [a]
    (attempt,) = protocol.attempts(a)
    assert (attempt["outcome"], attempt["late"]["result"]) == ("retry", 7)
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)


def test_the_last_attempt_settles_the_task(protocol: Protocol) -> None:
    protocol.register("a", retry=Retry(max_attempts=1))
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.claim(a)
    reply = time_out(protocol, {a: 1}, moves=True)
    assert protocol.counters(task) == ("error", 1, 0, 1)
    assert [(move["step"], move["to"], move["reason"]) for move in reply["moves"]] == [
        ("a", "error", "tasker.StepTimeout"),
        (None, "error", None),
    ]


@pytest.mark.parametrize("never", [StepTimeout, TaskerError, Exception])
def test_a_policy_may_forbid_the_retry(protocol: Protocol, never: type[Exception]) -> None:
    protocol.register("a", retry=Retry(max_attempts=3, never_for=(never,)))
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.claim(a)
    time_out(protocol, {a: 1})
    assert protocol.counters(task) == ("error", 1, 0, 1)


def test_of_a_shared_claim_no_step_is_charged_and_all_travel_alone(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a, b)
    assert published(time_out(protocol, {a: 1})) == [a]
    row = protocol.step(a)
    assert (row["state"], row["failures"], row["losses"], row["alone"]) == ("enqueued", 0, 0, True)
    assert protocol.step(b)["state"] == "in_progress"
    assert protocol.finish(won.complete()).reply["refused"] == [a]


def test_another_attempt_than_the_one_seen_is_left_alone(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.release(protocol.claim(a))
    protocol.claim(a)
    assert time_out(protocol, {a: 1})["moved"] == 0
    assert protocol.step(a)["state"] == "in_progress"


def test_a_repeat_ends_nothing_more(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.claim(a)
    time_out(protocol, {a: 1})
    before = protocol.step(a)
    assert time_out(protocol, {a: 1})["moved"] == 0
    assert protocol.step(a) == before


@pytest.mark.parametrize("first", ["finish", "cancel"])
def test_whoever_ends_the_attempt_first_wins(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    one, other = open_session(), open_session()
    one.register("a")
    task = one.submit()
    a = one.steps(task)["a"]
    won = one.claim(a)
    with one.connection.transaction():
        one.finish(won.complete()) if first == "finish" else cancel(one, task)
        timed_out = beside.start_blocked(other, one, lambda: time_out(other, {a: 1}))
    assert timed_out.result()["moved"] == 0
    assert one.step(a)["state"] == {"finish": "complete", "cancel": "cancelled"}[first]
    assert len(one.attempts(a)) == 1
