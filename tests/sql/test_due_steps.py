"""due_steps: retries, tasks for later and steps given back, once their time has come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from tests.sql.actions import cancel, stop
from tests.sql.protocol import START, Protocol, published


def waiting_steps(protocol: Protocol, count: int) -> list[int]:
    """Steps of one task whose retries become due one second after another, the last one first."""
    protocol.register(", ".join(f"s{number}" for number in range(count)))
    steps = list(protocol.steps(protocol.submit()).values())
    for seconds, step in enumerate(reversed(steps), start=1):
        protocol.fail(step, retry_after_ms=seconds * 1000)
    return steps


# Retries


def test_a_retry_is_enqueued_when_it_is_due_and_not_before(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, retry_after_ms=1000)
    protocol.pass_time(0.999)
    assert protocol.due() | {"at": None} == {"moved": 0, "publish": [], "at": None, "moves": None}
    protocol.pass_time(0.001)
    reply = protocol.due()
    assert (reply["moved"], published(reply)) == (1, [a])
    step = protocol.step(a)
    assert (step["state"], step["enqueued_at"], step["run_after"]) == ("enqueued", protocol.now, None)
    assert protocol.log(task)[-1] == ("a", "waiting_for_retry", "enqueued")
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)


def test_the_longest_due_come_first_and_no_more_than_the_limit(protocol: Protocol) -> None:
    a, b, c = waiting_steps(protocol, 3)
    protocol.pass_time(2)
    assert published(protocol.due(limit=1)) == [c]
    assert published(protocol.due(limit=10)) == [b]
    protocol.pass_time(1)
    assert published(protocol.due()) == [a]


def test_a_repeat_finds_nothing_due(protocol: Protocol) -> None:
    (a,) = waiting_steps(protocol, 1)
    protocol.pass_time(1)
    assert published(protocol.due()) == [a]
    assert protocol.due()["moved"] == 0


@pytest.mark.parametrize(
    ("hold", "seen"), [("pause_queue", True), ("close_gate", True), ("pause_task", False)]
)
def test_a_due_step_that_is_held_becomes_ready(protocol: Protocol, hold: str, *, seen: bool) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a)
    if hold == "pause_task":
        protocol.pause_task(task)
    else:
        getattr(protocol, hold)()
    protocol.pass_time(1)
    assert published(protocol.due()) == []
    step = protocol.step(a)
    assert (step["state"], step["run_after"]) == ("ready", None)
    assert step["ready_at"] == (protocol.now if seen else None)


def test_a_step_of_a_cancelled_task_is_never_due(protocol: Protocol) -> None:
    protocol.register("a")
    running, later = protocol.submit(), protocol.submit(run_after_ms=1000)
    protocol.fail(protocol.steps(running)["a"])
    cancel(protocol, running, later)
    protocol.pass_time(60)
    assert protocol.due()["moved"] == 0
    assert protocol.task(later)["state"] == "cancelled"


def test_what_another_coordinator_holds_is_left_to_it(open_session: Callable[[], Protocol]) -> None:
    first, second = open_session(), open_session()
    a, b = waiting_steps(first, 2)
    first.pass_time(2)
    second.pass_time(2)
    with first.connection.transaction():
        first.rows("select 1 from tasker.steps where id = %s for no key update", [a])
        assert published(second.due()) == [b]
        assert published(first.due()) == [a]
    assert second.due()["moved"] == 0


def test_two_coordinators_start_each_step_once(open_session: Callable[[], Protocol]) -> None:
    first, second = open_session(), open_session()
    steps = waiting_steps(first, 4)
    first.pass_time(4)
    second.pass_time(4)
    with first.connection.transaction():
        assert published(first.due(limit=2)) == steps[2:]
        assert published(second.due()) == steps[:2]


# Tasks for later


def test_a_task_for_later_starts_with_its_roots(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    task = protocol.submit(run_after_ms=60_000)
    a, b, _ = protocol.steps(task).values()
    protocol.pass_time(59)
    assert protocol.due()["moved"] == 0
    protocol.pass_time(1)
    reply = protocol.due(moves=True)
    assert published(reply) == [a, b]
    assert [(move["step"], move["from"], move["to"]) for move in reply["moves"]] == [
        (None, "pending", "in_progress"),
        ("a", "waiting", "enqueued"),
        ("b", "waiting", "enqueued"),
    ]
    assert protocol.counters(task) == ("in_progress", 3, 2, 0)
    assert protocol.task(task)["run_after"] is None


def test_a_task_with_more_roots_than_the_limit_starts_over_several_passes(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    task = protocol.submit(run_after_ms=1000)
    protocol.pass_time(1)
    started = [published(protocol.due(limit=2)), published(protocol.due(limit=2))]
    assert sorted(step for batch in started for step in batch) == list(protocol.steps(task).values())
    assert [len(batch) for batch in started] == [2, 1]


def test_a_task_somebody_holds_is_started_in_a_later_pass(open_session: Callable[[], Protocol]) -> None:
    holder, coordinator = open_session(), open_session()
    holder.register("a")
    held, free = holder.submit(run_after_ms=1000), holder.submit(run_after_ms=1000)
    coordinator.pass_time(1)
    with holder.connection.transaction():
        holder.rows("select 1 from tasker.tasks where id = %s for no key update", [held])
        assert published(coordinator.due()) == [coordinator.steps(free)["a"]]
        assert coordinator.counters(held) == ("pending", 1, 1, 0)
        assert coordinator.states(held) == {"a": "waiting"}
    assert published(coordinator.due()) == [coordinator.steps(held)["a"]]


# Steps given back for a missing handler


def give_back(protocol: Protocol) -> tuple[UUID, int]:
    """A task whose only step the worker could not run, due again in a second."""
    protocol.register("a", handler="missing")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    assert protocol.claim(a).reply["given_back"] == [a]
    return task, a


def test_a_step_nobody_can_run_is_looked_at_ever_more_rarely_without_a_trace(protocol: Protocol) -> None:
    task, a = give_back(protocol)
    log = protocol.log(task)
    wait = 1
    for next_wait in (5, 6, 12, 24, 48, 60, 60):
        protocol.pass_time(wait)
        assert published(protocol.due()) == []
        step = protocol.step(a)
        assert (step["state"], step["ready_at"]) == ("ready", None)
        assert step["run_after"] - protocol.now == timedelta(seconds=next_wait)
        wait = next_wait
    assert protocol.log(task) == log


def test_a_step_given_back_is_offered_as_soon_as_a_live_worker_of_its_queue_can_run_it(
    protocol: Protocol,
) -> None:
    _, a = give_back(protocol)
    protocol.register_worker(queues=["other"], handlers=["missing"])
    dead = protocol.register_worker(handlers=["missing"])
    stop(protocol, dead)
    protocol.pass_time(1)
    protocol.due()
    assert published(protocol.dispatch()) == []

    able = protocol.register_worker(handlers=["missing"])
    protocol.pass_time(5)
    protocol.due()
    assert protocol.step(a)["ready_at"] == protocol.now
    assert published(protocol.dispatch()) == [a]
    assert protocol.claim(a, worker=able).ids == [a]


def test_the_clock_of_a_session_stands_where_the_test_put_it(protocol: Protocol) -> None:
    assert protocol.row("select tasker.clock()")["clock"] == START
