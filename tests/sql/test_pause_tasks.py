"""pause_tasks: an operator holds tasks; what runs, runs on, and nothing more of them starts."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, pause, recover, retry, stop
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, Won, keep, published


def test_what_is_out_is_held_at_claim_and_what_runs_is_recorded(protocol: Protocol) -> None:
    protocol.register("out; runs > child")
    protocol.expect(work=1)
    task = protocol.submit()
    out, runs, child = protocol.steps(task).values()
    won = protocol.claim(runs)
    reply = pause(protocol, task)
    assert (reply["moved"], reply["refused"]) == ([str(task)], [])
    assert protocol.claim(out).ids == []
    kept = protocol.finish(won.complete(), keep=keep())
    assert (kept.ids, kept.published) == ([], [])
    assert protocol.states(task) == {"out": "ready", "runs": "complete", "child": "ready"}
    assert [protocol.step(step)["ready_at"] for step in (out, child)] == [None, None]
    assert protocol.counters(task) == ("paused", 2, 2, 0)
    protocol.pass_time(3600)
    assert (protocol.due()["moved"], protocol.dispatch()["moved"]) == (0, 0)


def test_retries_come_due_and_lost_steps_come_back_without_starting(protocol: Protocol) -> None:
    protocol.register("fails, dies, given")
    task = protocol.submit()
    fails, dies, given = protocol.steps(task).values()
    protocol.fail(fails)
    protocol.claim(dies, worker=protocol.register_worker())
    back = protocol.claim(given)
    pause(protocol, task)
    protocol.release(back)
    stop(protocol, protocol.step(dies)["worker_id"])
    assert recover(protocol)["publish"] == []
    protocol.pass_time(60)
    assert protocol.due()["publish"] == []
    assert protocol.states(task) == {"fails": "ready", "dies": "ready", "given": "ready"}
    assert protocol.dispatch()["moved"] == 0


def test_what_its_queue_held_leaves_the_sight_of_the_dispatch_loop(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.register("b", name="other")
    protocol.pause_queue()
    task, other = protocol.submit(), protocol.submit("other")
    pause(protocol, task)
    protocol.resume_queue()
    assert published(protocol.dispatch()) == [protocol.steps(other)["b"]]
    assert protocol.states(task) == {"a": "ready"}


def test_what_a_worker_without_the_handler_gave_back_is_not_offered_again(protocol: Protocol) -> None:
    protocol.register("a", handler="rare")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.claim(a)
    protocol.register_worker(handlers=["rare"])
    pause(protocol, task)
    protocol.pass_time(60)
    protocol.due()
    assert protocol.dispatch()["moved"] == 0
    protocol.resume_task(task)
    assert published(protocol.dispatch()) == [a]


def test_roots_submitted_inside_a_transaction_do_not_start(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(joined=True)
    pause(protocol, task)
    assert protocol.dispatch()["moved"] == 0
    assert protocol.states(task) == {"a": "ready"}


@pytest.mark.parametrize("state", ["pending", "complete", "error", "cancelled"])
def test_a_task_that_is_not_in_progress_is_refused_and_the_others_are_paused(
    protocol: Protocol, state: str
) -> None:
    protocol.register("a")
    task, other = protocol.submit(run_after_ms=60_000 if state == "pending" else None), protocol.submit()
    a = protocol.steps(task)["a"]
    match state:
        case "complete":
            protocol.complete(a)
        case "error":
            protocol.fail(a, permanent=True)
        case "cancelled":
            cancel(protocol, task)
    reply = pause(protocol, task, other, uuid4())
    assert reply["moved"] == [str(other)]
    assert reply["refused"] == [{"task_id": str(task), "state": state}]
    assert protocol.task(task)["state"] == state


def test_a_repeat_moves_nothing_and_refuses_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    pause(protocol, task)
    before = protocol.log(task)
    protocol.pass_time(1)
    again = pause(protocol, task, moves=True)
    assert (again["moved"], again["refused"], again["moves"]) == ([], [], [])
    assert protocol.log(task) == before


def test_who_paused_and_why_is_in_the_log(protocol: Protocol) -> None:
    protocol.register("a")
    (move,) = pause(protocol, protocol.submit(), moves=True)["moves"]
    assert (move["from"], move["to"], move["step"]) == ("in_progress", "paused", None)
    assert (move["actor"], move["reason"]) == (OPERATOR, REASON)


def test_a_paused_task_whose_last_step_ends_is_complete(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    pause(protocol, task)
    protocol.finish(won.complete())
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert protocol.task(task)["finished_at"] == START


def test_a_failed_step_of_a_paused_task_may_be_retried_and_is_held(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    pause(protocol, task)
    protocol.finish(won.fail(permanent=True))
    assert protocol.counters(task) == ("paused", 1, 0, 1)
    assert retry(protocol, a)["publish"] == []
    assert protocol.counters(task) == ("paused", 1, 1, 0)
    protocol.resume_task(task)
    assert published(protocol.dispatch()) == [a]


@pytest.mark.parametrize("first", ["finish", "pause"])
def test_of_a_finish_and_a_pause_at_the_same_time_each_sees_the_other(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b")
    worker.expect(work=1)
    task = worker.submit()
    won = worker.claim(worker.steps(task)["a"])

    def finish() -> Won:
        return worker.finish(won.complete(), keep=keep())

    if first == "finish":
        with worker.connection.transaction():
            kept = finish()
            paused = beside.start_blocked(operator, worker, lambda: pause(operator, task))
        assert paused.result()["moved"] == [str(task)]
        assert worker.states(task) == {"a": "complete", "b": "in_progress"}
        worker.finish(kept.complete())
        assert worker.counters(task) == ("complete", 0, 0, 0)
    else:
        with operator.connection.transaction():
            pause(operator, task)
            finished = beside.start_blocked(worker, operator, finish)
        assert (finished.result().ids, finished.result().published) == ([], [])
        assert worker.states(task) == {"a": "complete", "b": "ready"}


def test_a_pause_that_waits_for_the_last_finish_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    task = worker.submit()
    won = worker.claim(worker.steps(task)["a"])
    with worker.connection.transaction():
        worker.finish(won.complete())
        late = beside.start_blocked(operator, worker, lambda: pause(operator, task))
    assert (late.result()["moved"], late.result()["refused"]) == (
        [],
        [{"task_id": str(task), "state": "complete"}],
    )


def test_a_claim_under_way_wins_and_the_next_one_finds_the_task_held(
    open_session: Callable[[], Protocol],
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a, b")
    task = worker.submit()
    a, b = worker.steps(task).values()
    with worker.connection.transaction():
        won = worker.claim(a)
        assert pause(operator, task)["moved"] == [str(task)]
    assert won.ids == [a]
    assert worker.claim(b).ids == []
    worker.finish(won.complete())
    assert worker.states(task) == {"a": "complete", "b": "ready"}
    assert worker.dispatch()["moved"] == 0


def test_a_pause_waits_for_the_dispatch_loop_and_the_claim_holds_what_it_published(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    loop, operator = open_session(), open_session()
    loop.register("a")
    task = loop.submit(joined=True)
    a = loop.steps(task)["a"]
    with loop.connection.transaction():
        assert published(loop.dispatch()) == [a]
        paused = beside.start_blocked(operator, loop, lambda: pause(operator, task))
    assert paused.result()["moved"] == [str(task)]
    assert loop.claim(a).ids == []
    assert (loop.states(task), loop.step(a)["ready_at"]) == ({"a": "ready"}, None)


def test_two_pauses_of_the_same_tasks_in_different_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    ann.register("a")
    tasks = [ann.submit(joined=True) for _ in range(4)]
    with ann.connection.transaction():
        assert len(pause(ann, *tasks)["moved"]) == 4
        waiting = beside.start_blocked(ben, ann, lambda: pause(ben, *reversed(tasks)))
    assert (waiting.result()["moved"], waiting.result()["refused"]) == ([], [])
