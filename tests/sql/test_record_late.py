"""record_late, through finish_steps: outcomes that come after somebody else ended the attempt."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.actions import cancel, recover, resolve, skip, stop, time_out
from tests.sql.beside import Beside
from tests.sql.protocol import Protocol, Won, keep


def end_elsewhere(protocol: Protocol, won: Won, how: str) -> None:
    """Take the one step won from its worker."""
    attempt = won.only
    match how:
        case "cancelled":
            cancel(protocol, attempt.row["task_id"])
        case "resolved_manually":
            resolve(protocol, attempt.step_id)
        case "completed by hand":
            resolve(protocol, attempt.step_id, results={attempt.step_id: "by hand"})
        case "released":
            protocol.release(won)
        case "lost":
            stop(protocol, protocol.worker)
            recover(protocol)


ENDS = ["cancelled", "resolved_manually", "completed by hand", "released", "lost"]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("kind", ["complete", "failure"])
def test_a_late_outcome_is_refused_and_what_it_brought_is_kept(
    protocol: Protocol, how: str, kind: str
) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    end_elsewhere(protocol, won, how)
    before = protocol.states(task), protocol.counters(task), protocol.log(task)

    outcome = won.only.complete({"n": 1}) if kind == "complete" else won.only.fail(message="late")
    assert protocol.finish([outcome]).reply["refused"] == [a]
    assert (protocol.states(task), protocol.counters(task), protocol.log(task)) == before
    late = protocol.attempts(a)[0]["late"]
    brought = {"complete": ({"n": 1}, None), "failure": (None, {"type": "ValueError", "message": "late"})}
    assert (late["kind"], (late["result"], late["error"])) == (kind, brought[kind])
    assert protocol.attempts(a)[0]["outcome"] not in {"complete", "retry", "error"}


@pytest.mark.parametrize("kind", ["complete", "failure"])
def test_an_outcome_after_the_coordinator_ended_its_attempt_as_timed_out_is_refused_and_kept(
    protocol: Protocol, kind: str
) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    time_out(protocol, {a: 1})
    outcome = won.only.complete() if kind == "complete" else won.only.fail(message="late")
    for _ in range(2):
        assert protocol.finish([outcome]).reply["refused"] == [a]
    (attempt,) = protocol.attempts(a)
    assert (attempt["late"]["kind"], attempt["outcome"]) == (kind, "retry")
    assert attempt["error"]["type"] == "tasker.StepTimeout"


def test_a_late_outcome_is_kept_once(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    protocol.release(won)
    first, second = won.only.complete("first"), won.only.complete("second")
    assert protocol.finish([first]).reply["refused"] == [a]
    assert protocol.finish([second]).reply["refused"] == [a]
    assert protocol.attempts(a)[0]["late"]["result"] == "first"


def test_an_outcome_of_another_kind_than_the_one_recorded_is_refused(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a, b)
    done, failed = won.attempts[a], won.attempts[b]
    protocol.finish([done.complete(1), failed.fail()])
    assert protocol.finish([done.fail(), failed.complete(2)]).reply["refused"] == [a, b]
    assert protocol.states(task) == {"a": "complete", "b": "waiting_for_retry"}
    assert protocol.attempts(b)[0]["late"]["result"] == 2


def test_a_late_outcome_does_not_hold_up_its_batch(protocol: Protocol) -> None:
    protocol.register("a > b")
    cancelled, alive = protocol.submit(), protocol.submit()
    late, step = protocol.steps(cancelled)["a"], protocol.steps(alive)["a"]
    won = protocol.claim(late, step)
    cancel(protocol, cancelled)
    done = protocol.finish(won.complete(), keep=keep())
    assert (done.reply["refused"], done.ids) == ([late], [protocol.steps(alive)["b"]])


def test_a_late_outcome_and_that_of_the_steps_present_attempt_may_share_a_batch(protocol: Protocol) -> None:
    protocol.register("a > b")
    a, b = protocol.steps(protocol.submit()).values()
    released = protocol.claim(a)
    protocol.release(released)
    running = protocol.claim(a)
    done = protocol.finish([released.only.complete("late"), running.only.complete("present")])
    assert done.published == [b]
    late, present = protocol.attempts(a)
    assert (late["outcome"], late["late"]["result"]) == ("released", "late")
    assert (present["outcome"], present["result"], present["late"]) == ("complete", "present", None)
    assert done.reply["refused"] == [a]


@pytest.mark.parametrize("late_kind", ["complete", "failure"])
@pytest.mark.parametrize("present_kind", ["complete", "failure"])
def test_the_present_attempts_outcome_counts_whatever_its_place_and_kind(
    protocol: Protocol, late_kind: str, present_kind: str
) -> None:
    protocol.register("a")
    for reverse in (False, True):
        a = protocol.steps(protocol.submit())["a"]
        attempts = []
        for _ in range(3):
            attempts.append(protocol.claim(a))
            protocol.release(attempts[-1])
        attempts.append(protocol.claim(a))
        outcomes = [
            won.only.complete(number) if kind == "complete" else won.only.fail(number=number)
            for number, (won, kind) in enumerate(zip(attempts, [late_kind] * 3 + [present_kind], strict=True))
        ]
        if reverse:
            outcomes.reverse()
        protocol.finish(outcomes)
        ended = "complete" if present_kind == "complete" else "retry"
        assert [attempt["outcome"] for attempt in protocol.attempts(a)] == ["released"] * 3 + [ended]
        assert [attempt["late"] is not None for attempt in protocol.attempts(a)] == [True] * 3 + [False]


def test_an_operators_skip_before_the_parents_finish_is_not_undone(protocol: Protocol) -> None:
    protocol.register("a > b > c; a > d")
    task = protocol.submit()
    a, b, c, d = protocol.steps(task).values()
    won = protocol.claim(a)
    skip(protocol, b)
    done = protocol.finish(won.complete())
    assert protocol.states(task) == {"a": "complete", "b": "skipped", "c": "enqueued", "d": "enqueued"}
    assert done.published == [d]
    assert [protocol.step(step)["parents_left"] for step in (b, c, d)] == [0, 0, 0]


def test_a_cancel_that_waits_for_a_finish_cancels_what_is_left(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit()
    won = worker.claim(worker.steps(task)["a"])
    with worker.connection.transaction():
        assert worker.finish(won.complete()).reply["refused"] == []
        cancelling = beside.start_blocked(operator, worker, lambda: cancel(operator, task))
    assert cancelling.result()["moved"] == [str(task)]
    assert worker.states(task) == {"a": "complete", "b": "cancelled"}


def test_a_finish_that_waits_for_a_cancel_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit()
    a = worker.steps(task)["a"]
    won = worker.claim(a)
    with operator.connection.transaction():
        cancel(operator, task)
        finishing = beside.start_blocked(worker, operator, lambda: worker.finish(won.complete(), keep=keep()))
    assert (finishing.result().reply["refused"], finishing.result().ids) == ([a], [])
    assert worker.states(task) == {"a": "cancelled", "b": "cancelled"}
