"""A reply may get lost while its call still runs: the repeat waits for it, and does nothing a second time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from tests.sql import actions
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, Protocol, Reply

Call: TypeAlias = Callable[[Protocol], Reply]


def retry_a_step(session: Protocol) -> Call:
    step = session.steps(session.submit())["a"]
    session.fail(step, permanent=True)
    return lambda own: actions.retry(own, step)


def retry_a_task(session: Protocol) -> Call:
    task = session.submit()
    session.fail(session.steps(task)["a"], permanent=True)
    return lambda own: actions.retry(own, tasks=[task])


def skip(session: Protocol) -> Call:
    step = session.steps(session.submit())["a"]
    return lambda own: actions.skip(own, step)


def resolve(session: Protocol) -> Call:
    step = session.steps(session.submit())["a"]
    session.claim(step)
    return lambda own: actions.resolve(own, step)


def complete_by_hand(session: Protocol) -> Call:
    step = session.steps(session.submit())["a"]
    return lambda own: actions.resolve(own, step, results={step: {"by": "hand"}})


def cancel(session: Protocol) -> Call:
    task = session.submit()
    return lambda own: actions.cancel(own, task)


def park(session: Protocol) -> Call:
    step = session.steps(session.submit())["a"]
    actions.beat(session, session.worker, free=1)
    session.pass_time(60)
    assert actions.republish(session)["moved"] == 1
    return lambda own: actions.park(own, step)


def park_by_hand(session: Protocol) -> Call:
    step = session.steps(session.submit())["a"]
    return lambda own: actions.park_by_hand(own, step)


def pause(session: Protocol) -> Call:
    task = session.submit()
    return lambda own: actions.pause(own, task)


def resume(session: Protocol) -> Call:
    task = session.submit()
    actions.pause(session, task)
    return lambda own: actions.resume(own, task)


def pause_queue(session: Protocol) -> Call:
    session.submit()
    return lambda own: actions.pause_queues(own, QUEUE)


def resume_queue(session: Protocol) -> Call:
    session.submit()
    actions.pause_queues(session, QUEUE)
    return lambda own: actions.resume_queues(own, QUEUE)


OPERATIONS = (
    retry_a_step,
    retry_a_task,
    skip,
    resolve,
    complete_by_hand,
    cancel,
    park,
    park_by_hand,
    pause,
    resume,
    pause_queue,
    resume_queue,
)


def everything(session: Protocol) -> Mapping[str, object]:
    """What an operation may change."""
    return {
        table: session.rows(f"select * from tasker.{table} t order by t")
        for table in ("tasks", "steps", "step_attempts", "transitions", "queues", "dead_letters")
    }


@pytest.mark.parametrize("prepare", OPERATIONS)
def test_an_operation_repeated_beside_its_first_call_changes_nothing_more_and_publishes_the_same(
    open_session: Callable[[], Protocol], beside: Beside, prepare: Callable[[Protocol], Call]
) -> None:
    first, again = open_session(), open_session()
    first.register("a > b")
    call = prepare(first)
    with first.connection.transaction():
        reply = call(first)
        assert reply["moved"]
        repeat = beside.start_blocked(again, first, lambda: call(again))
        left = everything(first)
    repeated = repeat.result()
    assert not repeated["moved"]
    assert not repeated.get("refused")
    assert repeated.get("publish") == reply.get("publish")
    assert everything(first) == left


def test_messages_are_not_sent_twice_by_a_republish_beside_one_that_still_runs(
    open_session: Callable[[], Protocol],
) -> None:
    first, again = open_session(), open_session()
    first.register("a")
    step = first.steps(first.submit())["a"]
    actions.beat(first, first.worker, free=1)
    for session in (first, again):
        session.pass_time(60)
    with first.connection.transaction():
        assert actions.republish(first)["moved"] == 1
        assert actions.republish(again)["moved"] == 0  # it waits for nobody
        left = first.step(step)
    assert actions.republish(again)["moved"] == 0
    assert first.step(step) == left
