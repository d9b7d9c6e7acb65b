"""dispatch_tasks: what a committed submit left `ready` starts at once, and nobody else's steps do."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from tests.sql.protocol import START, Protocol, Reply, published


def dispatch(session: Protocol, *tasks: UUID, moves: bool = False) -> Reply:
    """dispatch_tasks."""
    reply: Reply = session.call("dispatch_tasks", list(tasks), moves)
    return reply


def test_the_roots_of_these_tasks_are_enqueued_and_those_of_others_are_left_to_the_loop(
    protocol: Protocol,
) -> None:
    protocol.register("a, b > c")
    own, others = protocol.submit(joined=True), protocol.submit(joined=True)
    a, b, _ = protocol.steps(own).values()
    reply = dispatch(protocol, own, moves=True)
    assert (reply["moved"], published(reply)) == (2, [a, b])
    assert sorted((move["step"], move["from"], move["to"]) for move in reply["moves"]) == [
        ("a", "ready", "enqueued"),
        ("b", "ready", "enqueued"),
    ]
    step = protocol.step(a)
    assert (step["state"], step["ready_at"], step["enqueued_at"]) == ("enqueued", None, START)
    assert protocol.states(others) == {"a": "ready", "b": "ready", "c": "pending"}


def test_a_repeat_moves_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(joined=True)
    dispatch(protocol, task)
    again = dispatch(protocol, task, moves=True)
    assert (again["moved"], again["publish"], again["moves"]) == (0, [], [])


def test_of_many_steps_the_first_64_start_at_once_and_the_others_as_there_is_room(protocol: Protocol) -> None:
    protocol.register(", ".join(f"s{number}" for number in range(70)))
    protocol.expect(work=400)
    task = protocol.submit(joined=True)
    steps = list(protocol.steps(task).values())
    assert published(dispatch(protocol, task)) == steps[:64]
    assert protocol.dispatch()["moved"] == 0


@pytest.mark.parametrize("hold", ["pause_queue", "close_gate", "pause_task"])
def test_what_is_held_stays_held(protocol: Protocol, hold: str) -> None:
    protocol.register("a")
    task = protocol.submit(joined=True)
    if hold == "pause_task":
        protocol.pause_task(task)
    else:
        getattr(protocol, hold)()
    assert dispatch(protocol, task)["moved"] == 0
    assert protocol.states(task) == {"a": "ready"}


def test_a_step_given_back_for_its_handler_keeps_its_time(protocol: Protocol) -> None:
    protocol.register("a", handler="rare")
    task = protocol.submit()
    protocol.claim(protocol.steps(task)["a"])
    assert dispatch(protocol, task)["moved"] == 0


def test_nothing_starts_before_the_transaction_commits(open_session: Callable[[], Protocol]) -> None:
    application, other = open_session(), open_session()
    application.register("a")
    with application.connection.transaction():
        task = application.submit(joined=True)
        assert dispatch(other, task)["moved"] == 0
    assert dispatch(other, task)["moved"] == 1


def test_it_neither_waits_for_the_loop_nor_publishes_what_the_loop_does(
    open_session: Callable[[], Protocol],
) -> None:
    application, loop = open_session(), open_session()
    application.register("a")
    task = application.submit(joined=True)
    with loop.connection.transaction():
        assert loop.dispatch()["moved"] == 1
        assert dispatch(application, task)["moved"] == 0
    assert dispatch(application, task)["moved"] == 0
