"""cancel_tasks: an operator ends tasks with every step of theirs at once."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.sql.actions import OPERATOR, REASON, beat, cancel, recover, republish, resolve, retry, skip, stop
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, Won, keep, published


def test_every_open_step_is_cancelled_and_what_has_ended_stays(protocol: Protocol) -> None:
    protocol.register(
        "done, skipped, runs, failed, later, out > behind; held", steps={"held": {"queue": "slow"}}
    )
    protocol.pause_queue("slow")
    task = protocol.submit()
    steps = protocol.steps(task)
    protocol.complete(steps["done"])
    skip(protocol, steps["skipped"])
    protocol.claim(steps["runs"])
    protocol.fail(steps["failed"], permanent=True)
    protocol.fail(steps["later"])
    assert protocol.states(task) == {
        "done": "complete",
        "skipped": "skipped",
        "runs": "in_progress",
        "failed": "error",
        "later": "waiting_for_retry",
        "out": "enqueued",
        "behind": "pending",
        "held": "ready",
    }
    reply = cancel(protocol, task)
    assert (reply["moved"], reply["refused"]) == ([str(task)], [])
    kept = {"done": "complete", "skipped": "skipped"}
    assert protocol.states(task) == dict.fromkeys(steps, "cancelled") | kept
    assert protocol.counters(task) == ("cancelled", 0, 0, 0)
    assert protocol.task(task)["finished_at"] == START
    times = protocol.rows("select distinct run_after, ready_at, enqueued_at from tasker.steps")
    assert times == [{"run_after": None, "ready_at": None, "enqueued_at": None}]


def test_nothing_of_it_comes_back_by_itself(protocol: Protocol) -> None:
    protocol.register("a, b, c, d")
    task = protocol.submit()
    a, b, c, d = protocol.steps(task).values()
    protocol.fail(a)
    protocol.claim(b)
    protocol.pause_queue()
    protocol.claim(c)
    cancel(protocol, task)
    protocol.resume_queue()
    stop(protocol, protocol.worker)
    other = protocol.register_worker()
    protocol.pass_time(3600)
    beat(protocol, other, free=1, received={QUEUE: protocol.now})
    assert recover(protocol)["moved"] == 0
    assert protocol.due()["moved"] == 0
    assert protocol.dispatch()["moved"] == 0
    assert republish(protocol)["moved"] == 0
    assert protocol.claim(a, b, c, d, worker=other).ids == []


@pytest.mark.parametrize("keeps", [True, False])
def test_the_late_finish_of_a_handler_that_still_runs_is_refused(protocol: Protocol, *, keeps: bool) -> None:
    protocol.register("a > b")
    protocol.expect(work=1)
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    cancel(protocol, task)
    reply = protocol.finish(won.complete({"paid": 1}), keep=keep() if keeps else None)
    assert (reply.ids, reply.published, reply.reply["refused"]) == ([], [], [a])
    assert protocol.states(task) == {"a": "cancelled", "b": "cancelled"}
    (attempt,) = protocol.attempts(a)
    assert (attempt["outcome"], attempt["finished_at"], attempt["result"]) == ("cancelled", START, None)
    assert attempt["late"] == {"kind": "complete", "result": {"paid": 1}, "error": None}


def test_the_late_failure_of_a_handler_that_still_runs_is_refused(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    cancel(protocol, task)
    assert protocol.finish(won.fail()).reply["refused"] == [a]
    assert protocol.counters(task) == ("cancelled", 0, 0, 0)
    protocol.pass_time(3600)
    assert protocol.due()["moved"] == 0


def test_a_batch_shared_with_a_cancelled_task_is_recorded_for_the_other(protocol: Protocol) -> None:
    protocol.register("a > b")
    protocol.expect(work=1)
    cancelled, lives = protocol.submit(), protocol.submit()
    a, other = protocol.steps(cancelled)["a"], protocol.steps(lives)["a"]
    won = protocol.claim(a, other)
    cancel(protocol, cancelled)
    reply = protocol.finish(won.complete(), keep=keep())
    assert reply.reply["refused"] == [a]
    assert reply.ids == [protocol.steps(lives)["b"]]


def test_a_release_after_the_cancel_gives_nothing_back(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    cancel(protocol, task)
    assert protocol.release(won)["publish"] == []
    assert protocol.states(task) == {"a": "cancelled"}


@pytest.mark.parametrize("state", ["pending", "in_progress", "paused", "error"])
def test_a_task_that_is_not_final_may_be_cancelled(protocol: Protocol, state: str) -> None:
    protocol.register("a > b")
    task = protocol.submit(run_after_ms=60_000 if state == "pending" else None)
    if state == "paused":
        protocol.pause_task(task)
    elif state == "error":
        protocol.fail(protocol.steps(task)["a"], permanent=True)
    assert protocol.task(task)["state"] == state
    assert cancel(protocol, task)["moved"] == [str(task)]
    assert protocol.counters(task) == ("cancelled", 0, 0, 0)
    assert protocol.task(task)["run_after"] is None
    protocol.pass_time(60)
    assert protocol.due()["moved"] == 0


def test_a_complete_task_is_refused_and_the_others_are_cancelled(protocol: Protocol) -> None:
    protocol.register("a")
    complete, open_ = protocol.submit(), protocol.submit()
    protocol.complete(protocol.steps(complete)["a"])
    reply = cancel(protocol, complete, open_, uuid4())
    assert reply["moved"] == [str(open_)]
    assert reply["refused"] == [{"task_id": str(complete), "state": "complete"}]
    assert protocol.counters(complete) == ("complete", 0, 0, 0)


def test_a_repeat_moves_nothing_and_refuses_nothing(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    cancel(protocol, task)
    before = protocol.log(task)
    protocol.pass_time(1)
    again = cancel(protocol, task, moves=True)
    assert (again["moved"], again["refused"], again["moves"]) == ([], [], [])
    assert protocol.log(task) == before
    assert protocol.task(task)["finished_at"] == START


def test_what_was_cancelled_can_be_neither_retried_nor_skipped_nor_resolved(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    cancel(protocol, task)
    for reply in (retry(protocol, a, b), skip(protocol, a, b), resolve(protocol, a, b, results={a: 1, b: 2})):
        assert reply["moved"] == []
        assert [item["task_state"] for item in reply["refused"]] == ["cancelled", "cancelled"]


def test_who_cancelled_and_why_is_in_the_log(protocol: Protocol) -> None:
    protocol.register("a > b")
    moves = cancel(protocol, protocol.submit(), moves=True)["moves"]
    assert sorted((move["step"] or "", move["from"], move["to"]) for move in moves) == [
        ("", "in_progress", "cancelled"),
        ("a", "enqueued", "cancelled"),
        ("b", "pending", "cancelled"),
    ]
    assert {(move["actor"], move["reason"]) for move in moves} == {(OPERATOR, REASON)}


@pytest.mark.parametrize("first", ["finish", "cancel"])
def test_of_a_finish_and_a_cancel_at_the_same_time_both_hold(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b")
    worker.expect(work=1)
    task = worker.submit()
    a, b = worker.steps(task).values()
    won = worker.claim(a)

    def finish() -> Won:
        return worker.finish(won.complete(), keep=keep())

    if first == "finish":
        with worker.connection.transaction():
            kept = finish()
            assert kept.ids == [b]
            cancelled = beside.start_blocked(operator, worker, lambda: cancel(operator, task))
        assert cancelled.result()["moved"] == [str(task)]
        assert worker.states(task) == {"a": "complete", "b": "cancelled"}
        assert worker.finish(kept.complete()).reply["refused"] == [b]
    else:
        with operator.connection.transaction():
            cancel(operator, task)
            late = beside.start_blocked(worker, operator, finish)
        assert (late.result().ids, late.result().reply["refused"]) == ([], [a])
        assert worker.states(task) == {"a": "cancelled", "b": "cancelled"}
    assert worker.counters(task) == ("cancelled", 0, 0, 0)


@pytest.mark.parametrize("first", ["claim", "cancel"])
def test_of_a_claim_and_a_cancel_at_the_same_time_no_handler_is_forgotten(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    task = worker.submit()
    a = worker.steps(task)["a"]
    own = worker.worker
    if first == "claim":
        with worker.connection.transaction():
            won = worker.claim(a)
            cancelled = beside.start_blocked(operator, worker, lambda: cancel(operator, task))
        assert cancelled.result()["moved"] == [str(task)]
        assert worker.finish(won.complete()).reply["refused"] == [a]
    else:
        with operator.connection.transaction():
            cancel(operator, task)
            claimed = beside.start_blocked(worker, operator, lambda: worker.claim(a, worker=own))
        assert claimed.result().ids == []
        assert worker.attempts(a) == []
    assert worker.states(task) == {"a": "cancelled"}


def test_a_retry_that_waits_for_the_cancel_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    ann.register("a")
    task = ann.submit()
    a = ann.steps(task)["a"]
    ann.fail(a, permanent=True)
    with ann.connection.transaction():
        cancel(ann, task)
        waiting = beside.start_blocked(ben, ann, lambda: retry(ben, a))
    assert [item["state"] for item in waiting.result()["refused"]] == ["cancelled"]


def test_two_cancels_of_the_same_tasks_in_different_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    ann.register("a > b")
    tasks = [ann.submit() for _ in range(4)]
    with ann.connection.transaction():
        assert len(cancel(ann, *tasks)["moved"]) == 4
        waiting = beside.start_blocked(ben, ann, lambda: cancel(ben, *reversed(tasks)))
    assert (waiting.result()["moved"], waiting.result()["refused"]) == ([], [])


def test_a_message_of_a_cancelled_task_does_not_hold_up_its_batch(protocol: Protocol) -> None:
    protocol.register("a")
    cancelled, lives = protocol.submit(), protocol.submit()
    a, b = protocol.steps(cancelled)["a"], protocol.steps(lives)["a"]
    cancel(protocol, cancelled)
    won = protocol.claim(a, b)
    assert (won.ids, won.reply["given_back"]) == ([b], [])
    assert published(protocol.release(won)) == [b]
