"""retry_steps: an operator gives failed steps another go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, recover, resolve, retry, skip, stop
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, published


def test_a_failed_step_is_enqueued_with_all_its_attempts_and_its_task_goes_on(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a)
    protocol.pass_time(10)
    protocol.due()
    protocol.fail(a, permanent=True)
    assert protocol.counters(task) == ("error", 2, 0, 1)
    reply = retry(protocol, a)
    assert reply["moved"] == [a]
    assert reply["publish"] == [["celery", None, None, [a]]]
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)
    assert protocol.task(task)["finished_at"] is None
    row = protocol.claim(a).only.row
    assert (row["attempt"], row["failures"]) == (3, 0)
    stop(protocol, protocol.worker)
    assert [attempt["outcome"] for attempt in protocol.attempts(a)] == ["retry", "error", None]
    assert protocol.states(task) == {"a": "in_progress", "b": "pending"}
    assert b not in reply["moved"]


def test_losses_are_forgotten_and_the_step_need_not_travel_alone_any_more(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    for _ in range(2):
        worker = protocol.register_worker()
        protocol.claim(a, worker=worker)
        stop(protocol, worker)
        recover(protocol, max_losses=1)
    assert protocol.step(a)["state"] == "error"
    assert retry(protocol, a)["publish"] == [["celery", None, None, [a]]]
    assert (protocol.step(a)["losses"], protocol.step(a)["alone"]) == (0, False)


def test_a_task_is_retried_with_every_failed_step_of_its_own(protocol: Protocol) -> None:
    protocol.register("a, b, c, d > e")
    task, other = protocol.submit(), protocol.submit()
    a, b, c, d, _ = protocol.steps(task).values()
    stays = protocol.steps(other)["a"]
    protocol.fail(a, b, stays, permanent=True)
    protocol.complete(c)
    assert retry(protocol, tasks=[task])["moved"] == [a, b]
    assert protocol.counters(task) == ("in_progress", 4, 3, 0)
    assert protocol.step(d)["state"] == "enqueued"
    assert protocol.step(stays)["state"] == "error"


def test_a_task_brought_back_can_complete(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    retry(protocol, tasks=[task])
    assert protocol.complete(a).published == [b]
    protocol.complete(b)
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert [to for name, _, to in protocol.log(task) if name is None] == [
        "in_progress",
        "error",
        "in_progress",
        "complete",
    ]


def test_who_retried_and_why_is_in_the_log(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, permanent=True)
    moves = retry(protocol, a, moves=True)["moves"]
    assert [(move["step"], move["from"], move["to"], move["actor"]) for move in moves] == [
        ("a", "error", "enqueued", OPERATOR),
        (None, "error", "in_progress", OPERATOR),
    ]
    assert moves[0]["reason"] == REASON


def test_a_step_that_has_not_failed_is_refused_with_its_state(protocol: Protocol) -> None:
    protocol.register("a, b, c > d; e, f")
    task = protocol.submit()
    a, b, c, d, e, f = protocol.steps(task).values()
    protocol.complete(a)
    protocol.claim(b)
    protocol.fail(c)
    skip(protocol, e)
    reply = retry(protocol, a, b, c, d, e, f)
    assert (reply["moved"], published(reply)) == ([], [f])
    assert {item["step"]: item["state"] for item in reply["refused"]} == {
        "a": "complete",
        "b": "in_progress",
        "c": "waiting_for_retry",
        "e": "skipped",
    }
    assert reply["refused"][0] == {
        "step_id": a,
        "task_id": str(task),
        "step": "a",
        "state": "complete",
        "task_state": "in_progress",
    }


def test_what_failed_before_its_task_was_cancelled_stays_cancelled(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, permanent=True)
    cancel(protocol, task)
    reply = retry(protocol, a, tasks=[task])
    assert (reply["moved"], reply["publish"]) == ([], [])
    assert [(item["state"], item["task_state"]) for item in reply["refused"]] == [("cancelled", "cancelled")]


def test_ids_that_nobody_has_are_ignored(protocol: Protocol) -> None:
    reply = retry(protocol, 404)
    assert (reply["moved"], reply["refused"], reply["publish"]) == ([], [], [])


def test_a_repeat_moves_nothing_refuses_nothing_and_publishes_again(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, permanent=True)
    first, again = retry(protocol, a), retry(protocol, a)
    assert again["publish"] == first["publish"]
    assert (again["moved"], again["refused"]) == ([], [])
    assert protocol.log_of(a) == ["enqueued", "in_progress", "error", "enqueued"]


def test_a_repeat_after_the_claim_publishes_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.fail(a, permanent=True)
    retry(protocol, a)
    protocol.claim(a)
    assert retry(protocol, a)["publish"] == []


@pytest.mark.parametrize("held", ["paused", "gated"])
def test_a_step_of_a_held_queue_is_ready_until_the_queue_goes_on(protocol: Protocol, held: str) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, permanent=True)
    hold, let_go = {
        "paused": (protocol.pause_queue, protocol.resume_queue),
        "gated": (protocol.close_gate, protocol.open_gate),
    }[held]
    hold()
    reply = retry(protocol, a)
    assert (reply["moved"], reply["publish"]) == ([a], [])
    assert (protocol.step(a)["state"], protocol.step(a)["ready_at"]) == ("ready", START)
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)
    assert retry(protocol, a)["refused"] == []
    let_go()
    assert published(protocol.dispatch()) == [a]


def test_a_step_of_a_paused_task_waits_for_it_and_the_task_stays_paused(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    won = protocol.claim(b)
    protocol.pause_task(task)
    assert retry(protocol, a)["publish"] == []
    assert (protocol.step(a)["state"], protocol.step(a)["ready_at"]) == ("ready", None)
    assert protocol.dispatch()["moved"] == 0
    protocol.finish(won.complete())
    assert protocol.counters(task) == ("paused", 1, 1, 0)


def test_an_independent_branch_that_finishes_meanwhile_does_not_settle_the_task(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    operator, worker = open_session(), open_session()
    operator.register("a, b")
    task = operator.submit()
    a, b = operator.steps(task).values()
    operator.fail(a, permanent=True)
    won = worker.claim(b)
    with operator.connection.transaction():
        assert retry(operator, a)["moved"] == [a]
        finish = beside.start_blocked(worker, operator, lambda: worker.finish(won.complete()))
    finish.result()
    assert operator.counters(task) == ("in_progress", 1, 1, 0)


def test_a_retry_that_waits_for_the_finish_that_settles_the_task_brings_it_back(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    operator, worker = open_session(), open_session()
    operator.register("a, b")
    task = operator.submit()
    a, b = operator.steps(task).values()
    operator.fail(a, permanent=True)
    won = worker.claim(b)
    with worker.connection.transaction():
        worker.finish(won.complete())
        assert worker.counters(task) == ("error", 1, 0, 1)
        waiting = beside.start_blocked(operator, worker, lambda: retry(operator, a))
    assert waiting.result()["moved"] == [a]
    assert operator.counters(task) == ("in_progress", 1, 1, 0)


def test_of_a_retry_and_a_resolve_at_the_same_time_the_second_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    ann.register("a")
    task = ann.submit()
    a = ann.steps(task)["a"]
    ann.fail(a, permanent=True)
    with ann.connection.transaction():
        resolve(ann, a)
        waiting = beside.start_blocked(ben, ann, lambda: retry(ben, a))
    assert [item["state"] for item in waiting.result()["refused"]] == ["resolved_manually"]
    assert ann.counters(task) == ("complete", 0, 0, 0)
