"""resume_tasks: an operator lets paused tasks go on; nothing that was held is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, pause, resume
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, published


def paused_with_a_held_step(session: Protocol) -> tuple[UUID, int]:
    """A paused task and its only step, whose message found it held."""
    session.register("a")
    task = session.submit()
    a = session.steps(task)["a"]
    pause(session, task)
    assert session.claim(a).ids == []
    return task, a


def test_what_was_held_is_dispatched_again(protocol: Protocol) -> None:
    protocol.register("a")
    tasks = [protocol.submit() for _ in range(3)]
    held = [protocol.steps(task)["a"] for task in tasks]
    pause(protocol, *tasks)
    protocol.claim(*held)
    protocol.pass_time(60)
    reply = resume(protocol, *tasks)
    assert (sorted(reply["moved"]), reply["refused"]) == (sorted(str(task) for task in tasks), [])
    assert [protocol.step(step)["ready_at"] for step in held] == [protocol.now] * 3
    assert published(protocol.dispatch()) == held
    protocol.complete(*held)
    assert [protocol.counters(task) for task in tasks] == [("complete", 0, 0, 0)] * 3


def test_a_step_of_a_paused_queue_stays_held_with_it(protocol: Protocol) -> None:
    task, a = paused_with_a_held_step(protocol)
    protocol.pause_queue()
    resume(protocol, task)
    assert protocol.dispatch()["moved"] == 0
    protocol.resume_queue()
    assert published(protocol.dispatch()) == [a]


def test_a_message_that_was_out_all_the_time_is_claimed(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    pause(protocol, task)
    resume(protocol, task)
    assert protocol.claim(a).ids == [a]


def test_a_step_given_back_for_its_handler_keeps_its_time(protocol: Protocol) -> None:
    protocol.register("a", handler="rare")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.claim(a)
    pause(protocol, task)
    resume(protocol, task)
    step = protocol.step(a)
    assert (step["ready_at"], step["run_after"] > protocol.now) == (None, True)


def test_a_task_in_which_everything_failed_meanwhile_settles(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    pause(protocol, task)
    protocol.finish(won.fail(permanent=True))
    reply = resume(protocol, task, moves=True)
    assert protocol.counters(task) == ("error", 2, 0, 1)
    assert protocol.task(task)["finished_at"] == START
    assert [(move["from"], move["to"], move["actor"], move["reason"]) for move in reply["moves"]] == [
        ("paused", "in_progress", OPERATOR, REASON),
        ("in_progress", "error", OPERATOR, None),
    ]
    again = resume(protocol, task)
    assert (again["moved"], again["refused"]) == ([], [])


def test_a_task_that_failed_in_part_goes_on(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a)
    pause(protocol, task)
    protocol.finish(won.fail(permanent=True))
    resume(protocol, task)
    assert protocol.counters(task) == ("in_progress", 2, 1, 1)
    protocol.complete(b)
    assert protocol.counters(task) == ("error", 1, 0, 1)


@pytest.mark.parametrize("state", ["pending", "complete", "error", "cancelled"])
def test_a_task_that_never_was_paused_is_refused(protocol: Protocol, state: str) -> None:
    protocol.register("a")
    task = protocol.submit(run_after_ms=60_000 if state == "pending" else None)
    a = protocol.steps(task)["a"]
    match state:
        case "complete":
            protocol.complete(a)
        case "error":
            protocol.fail(a, permanent=True)
        case "cancelled":
            cancel(protocol, task)
    reply = resume(protocol, task)
    assert (reply["moved"], reply["refused"]) == ([], [{"task_id": str(task), "state": state}])


def test_a_task_cancelled_while_it_was_paused_is_refused(protocol: Protocol) -> None:
    task, _ = paused_with_a_held_step(protocol)
    cancel(protocol, task)
    assert resume(protocol, task)["refused"] == [{"task_id": str(task), "state": "cancelled"}]


def test_a_repeat_moves_and_refuses_nothing_even_once_the_task_is_complete(protocol: Protocol) -> None:
    task, a = paused_with_a_held_step(protocol)
    resume(protocol, task)
    ready_at = protocol.step(a)["ready_at"]
    protocol.pass_time(1)
    again = resume(protocol, task, moves=True)
    assert (again["moved"], again["refused"], again["moves"]) == ([], [], [])
    assert protocol.step(a)["ready_at"] == ready_at
    protocol.dispatch()
    protocol.complete(a)
    assert resume(protocol, task)["refused"] == []


def test_a_claim_that_found_the_task_paused_hides_nothing_from_the_resume(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    task = worker.submit()
    a = worker.steps(task)["a"]
    pause(worker, task)
    with worker.connection.transaction():
        assert worker.claim(a).ids == []
        resumed = beside.start_blocked(operator, worker, lambda: resume(operator, task))
    assert resumed.result()["moved"] == [str(task)]
    assert published(worker.dispatch()) == [a]


def test_a_claim_that_waits_for_the_resume_wins(open_session: Callable[[], Protocol], beside: Beside) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    task = worker.submit()
    a = worker.steps(task)["a"]
    own = worker.worker
    pause(worker, task)
    with operator.connection.transaction():
        resume(operator, task)
        claimed = beside.start_blocked(worker, operator, lambda: worker.claim(a, worker=own))
    assert claimed.result().ids == [a]


def test_a_retry_that_comes_due_while_the_task_is_resumed_is_not_forgotten(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    loop, operator = open_session(), open_session()
    loop.register("a")
    task = loop.submit()
    a = loop.steps(task)["a"]
    loop.fail(a)
    pause(loop, task)
    loop.pass_time(60)
    with loop.connection.transaction():
        assert loop.due()["moved"] == 1
        resumed = beside.start_blocked(operator, loop, lambda: resume(operator, task))
    assert resumed.result()["moved"] == [str(task)]
    assert published(loop.dispatch()) == [a]


def test_a_release_while_the_task_is_resumed_is_not_forgotten(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    task = worker.submit()
    a = worker.steps(task)["a"]
    won = worker.claim(a)
    pause(worker, task)
    with worker.connection.transaction():
        assert worker.release(won)["publish"] == []
        resumed = beside.start_blocked(operator, worker, lambda: resume(operator, task))
    assert resumed.result()["moved"] == [str(task)]
    assert published(worker.dispatch()) == [a]


def test_the_dispatch_loop_does_not_wait_for_a_resume_and_finds_its_steps_afterwards(
    open_session: Callable[[], Protocol],
) -> None:
    loop, operator = open_session(), open_session()
    task, a = paused_with_a_held_step(loop)
    with operator.connection.transaction():
        resume(operator, task)
        assert loop.dispatch()["moved"] == 0
    assert published(loop.dispatch()) == [a]


def test_of_two_resumes_at_the_same_time_one_moves_and_neither_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    task, a = paused_with_a_held_step(ann)
    with ann.connection.transaction():
        assert resume(ann, task)["moved"] == [str(task)]
        waiting = beside.start_blocked(ben, ann, lambda: resume(ben, task))
    assert (waiting.result()["moved"], waiting.result()["refused"]) == ([], [])
    assert published(ann.dispatch()) == [a]


def test_a_pause_after_a_resume_at_the_same_time_holds_everything_again(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    task, a = paused_with_a_held_step(ann)
    with ann.connection.transaction():
        resume(ann, task)
        paused = beside.start_blocked(ben, ann, lambda: pause(ben, task))
    assert paused.result()["moved"] == [str(task)]
    assert ann.step(a)["ready_at"] is None
    assert ann.dispatch()["moved"] == 0
