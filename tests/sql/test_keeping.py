"""advance_tasks through finish_steps: which of the newly ready steps the finishing worker keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.sql.protocol import HANDLER, QUEUE, START, Protocol, Won, keep, published


def finish_first(protocol: Protocol, task: UUID, offer: dict[str, Any]) -> Won:
    """Complete the first step of a task, offering to run what comes next."""
    first = next(iter(protocol.steps(task).values()))
    return protocol.finish(protocol.claim(first).complete({"n": 1}), keep=offer)


def kept_names(protocol: Protocol, task: UUID, offer: dict[str, Any]) -> list[str]:
    """Names of the steps kept after the first; the others that may run are published, each once."""
    done = finish_first(protocol, task, offer)
    names = {step: name for name, step in protocol.steps(task).items()}
    enqueued = [step for step, name in names.items() if protocol.states(task)[name] == "enqueued"]
    assert done.published == enqueued
    assert all(protocol.step(step)["enqueued_at"] == START for step in enqueued)
    return [names[step] for step in done.ids]


def test_the_next_step_of_a_chain_is_kept_with_all_its_worker_needs(protocol: Protocol) -> None:
    protocol.register("a > b", config={"url": "x"})
    task = protocol.submit()
    b = protocol.steps(task)["b"]
    done = finish_first(protocol, task, keep())
    assert (done.ids, done.published) == ([b], [])
    row = done.only.row
    assert (row["name"], row["handler"], row["attempt"], row["config"]) == ("b", HANDLER, 1, {"url": "x"})
    assert (row["results"], row["task_id"]) == ({"a": {"n": 1}}, str(task))

    step = protocol.step(b)
    assert (step["state"], step["claim_id"], step["worker_id"]) == (
        "in_progress",
        done.claim_id,
        protocol.worker,
    )
    assert (step["ready_at"], step["enqueued_at"], step["run_after"]) == (None, None, None)
    (attempt,) = protocol.attempts(b)
    assert (attempt["claim_id"], attempt["claimed_at"]) == (done.claim_id, START)
    assert protocol.log_of(b) == ["enqueued", "in_progress"]
    protocol.finish(done.complete())
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_without_an_offer_everything_is_published(protocol: Protocol) -> None:
    protocol.register("a > b, c")
    a, b, c = protocol.steps(protocol.submit()).values()
    done = protocol.complete(a)
    assert (done.ids, done.published) == ([], [b, c])


@pytest.mark.parametrize(
    ("expected", "kept"),
    [
        ({}, "b"),
        ({"b": 10, "c": 10, "d": 10, "e": 10}, "bcde"),
        ({"b": 10, "c": 30, "d": 10, "e": 10}, "bcd"),
        ({"b": 10, "c": 40, "d": 10, "e": 1}, "bc"),
        ({"b": 10, "c": 41, "d": 1, "e": 1}, "b"),
        ({"b": 900, "c": 1, "d": 1, "e": 1}, "b"),
        ({"c": 1, "d": 1, "e": 1}, "b"),
        ({"b": 1, "d": 1, "e": 1}, "b"),
        ({"b": 1, "c": 1, "d": 1}, "bcd"),
    ],
)
def test_a_prefix_is_kept_that_fits_the_budget_and_a_slow_or_unknown_step_only_alone(
    protocol: Protocol, expected: dict[str, float], kept: str
) -> None:
    names = "bcde"
    protocol.register("a > b, c, d, e", steps={name: {"handler": f"h{name}"} for name in names})
    protocol.connection.execute(
        "update tasker.workers set handlers = %s where id = %s",
        [[HANDLER, *(f"h{name}" for name in names)], protocol.worker],
    )
    protocol.expect(**{f"h{name}": milliseconds for name, milliseconds in expected.items()})
    assert kept_names(protocol, protocol.submit(), keep(budget_ms=50)) == list(kept)


@pytest.mark.parametrize(("most", "kept"), [(0, ""), (1, "b"), (2, "bc"), (3, "bcd"), (64, "bcd")])
def test_no_more_steps_are_kept_than_the_worker_takes(protocol: Protocol, most: int, kept: str) -> None:
    protocol.register("a > b, c, d")
    protocol.expect(work=1)
    assert kept_names(protocol, protocol.submit(), keep(most=most)) == list(kept)


def test_only_steps_of_the_workers_queue_are_kept(protocol: Protocol) -> None:
    protocol.register("a > b, c, d", steps={"b": {"queue": "other"}, "d": {"queue": "other"}})
    protocol.expect(work=1)
    task = protocol.submit()
    assert kept_names(protocol, task, keep()) == ["c"]
    assert kept_names(protocol, protocol.submit(), keep(queue="other")) == ["b", "d"]


def test_only_steps_are_kept_whose_handlers_the_worker_has(protocol: Protocol) -> None:
    protocol.register("a > b, c, d", steps={"b": {"handler": "missing"}, "d": {"handler": "missing"}})
    protocol.expect(work=1, missing=1)
    task = protocol.submit()
    assert kept_names(protocol, task, keep()) == ["c"]
    child = protocol.register_worker(parent=protocol.worker, kind="child", queues=[], handlers=["missing"])
    second = protocol.submit()
    a = protocol.steps(second)["a"]
    done = protocol.finish(protocol.claim(a, worker=child).complete(), keep=keep(), worker=child)
    assert [attempt.row["name"] for attempt in done.attempts.values()] == ["c"]


def test_a_step_that_travels_alone_is_never_kept(protocol: Protocol) -> None:
    protocol.register("a > b, c")
    protocol.expect(work=1)
    task = protocol.submit()
    b = protocol.steps(task)["b"]
    protocol.connection.execute("update tasker.steps set alone = true where id = %s", [b])
    done = finish_first(protocol, task, keep())
    assert [attempt.row["name"] for attempt in done.attempts.values()] == ["c"]
    assert done.reply["publish"] == [[QUEUE, 1, 1, [b]]]


@pytest.mark.parametrize("circumstance", ["paused queue", "paused task"])
def test_held_steps_are_neither_kept_nor_published(protocol: Protocol, circumstance: str) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    if circumstance == "paused queue":
        protocol.pause_queue()
    else:
        protocol.pause_task(task)
    done = protocol.finish(won.complete(), keep=keep())
    assert (done.ids, done.published) == ([], [])
    step = protocol.step(protocol.steps(task)["b"])
    assert (step["state"], step["enqueued_at"]) == ("ready", None)
    assert step["ready_at"] == (None if circumstance == "paused task" else START)


def test_behind_a_closed_gate_children_are_kept_and_what_is_not_waits_for_its_turn(
    protocol: Protocol,
) -> None:
    protocol.register("a > b, c, d", steps={"d": {"handler": "other"}})
    protocol.expect(work=20)
    task = protocol.submit()
    steps = protocol.steps(task)
    won = protocol.claim(steps["a"])
    protocol.close_gate()
    done = protocol.finish(won.complete(), keep=keep(budget_ms=30))
    assert (done.ids, done.published) == ([steps["b"]], [])
    assert protocol.states(task) == {"a": "complete", "b": "in_progress", "c": "ready", "d": "ready"}
    assert protocol.step(steps["c"])["ready_at"] == START
    assert published(protocol.dispatch()) == [steps["c"], steps["d"]]


def test_the_steps_kept_are_those_of_all_tasks_of_the_batch_in_the_order_of_their_ids(
    protocol: Protocol,
) -> None:
    protocol.register("a > b, c")
    protocol.expect(work=20)
    tasks = [protocol.submit() for _ in range(2)]
    steps = [protocol.steps(task) for task in tasks]
    won = protocol.claim(*(of_task["a"] for of_task in steps))
    done = protocol.finish(won.complete(), keep=keep(budget_ms=60))
    children = sorted(of_task[name] for of_task in steps for name in "bc")
    assert (done.ids, done.published) == (children[:3], children[3:])


def test_a_child_already_published_is_not_kept(protocol: Protocol) -> None:
    protocol.register("a, b > c; b > d")
    task = protocol.submit()
    a, b, c, d = protocol.steps(task).values()
    won = protocol.claim(a, b)
    protocol.finish(won.complete())
    protocol.pass_time(1)
    repeat = protocol.finish([won.attempts[b].complete()], keep=keep())
    assert (repeat.ids, repeat.published) == ([], [c, d])
    assert protocol.step(c)["enqueued_at"] == START
    assert protocol.now - START == timedelta(seconds=1)


def test_kept_steps_can_be_given_back_under_the_claim_they_were_kept_with(protocol: Protocol) -> None:
    protocol.register("a > b, c")
    protocol.expect(work=1)
    task = protocol.submit()
    _, b, c = protocol.steps(task).values()
    done = finish_first(protocol, task, keep())
    assert done.ids == [b, c]
    protocol.release(done, c)
    protocol.finish([done.attempts[b].complete()])
    assert protocol.states(task) == {"a": "complete", "b": "complete", "c": "enqueued"}
