"""advance_tasks, through finishes and operators: children, counters, and when a task settles."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from tests.sql.actions import resolve, retry, skip
from tests.sql.protocol import START, Protocol, published


def run_what_is_enqueued(protocol: Protocol, task: UUID) -> None:
    """Complete step after step until none is enqueued."""
    while enqueued := [
        protocol.steps(task)[name] for name, state in protocol.states(task).items() if state == "enqueued"
    ]:
        protocol.complete(*enqueued)


@pytest.mark.parametrize(
    "notation",
    [
        "a",
        "a, b",
        "a > b > c > d",
        "a > b, c > d",
        "a > b, c, d, e > f",
        "a > b, c; b > d, e; c > f, g; d, e, f, g > h",
        "a, b > c; b > d; c, d > e; a > f; e, f > g",
    ],
)
def test_a_graph_runs_to_its_end_and_its_task_completes(protocol: Protocol, notation: str) -> None:
    protocol.register(notation)
    task = protocol.submit()
    run_what_is_enqueued(protocol, task)
    assert set(protocol.states(task).values()) == {"complete"}
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_a_failed_step_leaves_independent_branches_running_and_then_settles_the_task(
    protocol: Protocol,
) -> None:
    protocol.register("a > b, c; b > d; c > e; d, e > f")
    task = protocol.submit()
    steps = protocol.steps(task)
    protocol.complete(steps["a"])
    protocol.fail(steps["b"], permanent=True)
    assert protocol.counters(task) == ("in_progress", 5, 1, 1)
    assert protocol.task(task)["finished_at"] is None

    protocol.pass_time(30)
    run_what_is_enqueued(protocol, task)
    assert protocol.states(task) == {
        "a": "complete",
        "b": "error",
        "c": "complete",
        "d": "pending",
        "e": "complete",
        "f": "pending",
    }
    assert protocol.counters(task) == ("error", 3, 0, 1)
    assert protocol.task(task)["finished_at"] == START + timedelta(seconds=30)
    assert protocol.log(task)[-1] == (None, "in_progress", "error")


def test_a_step_waiting_for_its_retry_keeps_the_task_going(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a)
    protocol.fail(b, permanent=True)
    assert protocol.counters(task) == ("in_progress", 2, 1, 1)


@pytest.mark.parametrize("cure", ["retry", "skip", "resolve"])
def test_a_task_in_error_goes_on_once_its_failed_step_is_cured(protocol: Protocol, cure: str) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, _ = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    assert protocol.counters(task) == ("error", 2, 0, 1)
    {"retry": retry, "skip": skip, "resolve": resolve}[cure](protocol, a)
    assert protocol.task(task)["state"] == "in_progress"
    assert protocol.task(task)["finished_at"] is None
    run_what_is_enqueued(protocol, task)
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_skipping_the_last_open_step_of_a_task_in_error_completes_it(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.complete(a)
    protocol.fail(b, permanent=True)
    skip(protocol, b)
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert protocol.log(task)[-1] == (None, "error", "complete")


def test_one_of_two_failed_steps_cured_leaves_a_task_without_anything_to_run_in_error(
    protocol: Protocol,
) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, b, _ = protocol.steps(task).values()
    protocol.fail(a, b, permanent=True)
    assert protocol.counters(task) == ("error", 3, 0, 2)
    skip(protocol, a)
    assert protocol.counters(task) == ("error", 2, 0, 1)


def test_a_paused_task_completes_but_holds_what_would_start(protocol: Protocol) -> None:
    protocol.register("a > b", name="chain")
    protocol.register("a")
    chain, single = protocol.submit("chain"), protocol.submit()
    won = protocol.claim(protocol.steps(chain)["a"], protocol.steps(single)["a"])
    protocol.pause_task(chain)
    protocol.pause_task(single)
    assert protocol.finish(won.complete()).published == []
    assert protocol.states(chain) == {"a": "complete", "b": "ready"}
    assert protocol.counters(chain) == ("paused", 1, 1, 0)
    assert protocol.counters(single) == ("complete", 0, 0, 0)


def test_a_paused_task_whose_steps_all_failed_is_left_to_its_resumption(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    protocol.pause_task(task)
    protocol.finish(won.fail(permanent=True))
    assert protocol.counters(task) == ("paused", 1, 0, 1)
    assert protocol.task(task)["finished_at"] is None


@pytest.mark.parametrize("hold", ["pause_queue", "close_gate"])
def test_children_of_a_held_queue_are_ready_and_the_others_enqueued(protocol: Protocol, hold: str) -> None:
    protocol.register("a > b, c", steps={"b": {"queue": "held"}})
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    getattr(protocol, hold)("held")
    assert protocol.complete(a).published == [c]
    step = protocol.step(b)
    assert (step["state"], step["ready_at"], step["enqueued_at"]) == ("ready", START, None)
    assert protocol.counters(task) == ("in_progress", 2, 2, 0)
    assert published(protocol.dispatch()) == ([] if hold == "pause_queue" else [b])


def test_a_thousand_children_and_their_join_advance_in_single_calls(protocol: Protocol) -> None:
    middle = ", ".join(f"m{number}" for number in range(1000))
    protocol.register(f"first > {middle} > last")
    protocol.expect(work=0.1)
    task = protocol.submit()
    first, *children, last = protocol.steps(task).values()
    assert protocol.complete(first).published == children
    assert protocol.complete(*children[:-1]).published == []
    assert protocol.step(last)["parents_left"] == 1
    assert protocol.complete(children[-1]).published == [last]
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)


def test_tasks_of_one_batch_settle_each_by_their_own_steps(protocol: Protocol) -> None:
    protocol.register("a, b")
    done, failed, going = (protocol.submit() for _ in range(3))
    steps = {task: list(protocol.steps(task).values()) for task in (done, failed, going)}
    won = protocol.claim(*steps[done], *steps[failed], steps[going][0])
    outcomes = [won.attempts[step].complete() for step in (*steps[done], steps[failed][0], steps[going][0])]
    protocol.finish([*outcomes, won.attempts[steps[failed][1]].fail(permanent=True)])
    assert protocol.counters(done) == ("complete", 0, 0, 0)
    assert protocol.counters(failed) == ("error", 1, 0, 1)
    assert protocol.counters(going) == ("in_progress", 1, 1, 0)
