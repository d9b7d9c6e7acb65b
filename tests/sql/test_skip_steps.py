"""skip_steps: an operator declares steps not needed, and their children go on without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, retry, skip
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, keep, published


def put_into(session: Protocol, state: str) -> int:
    """The first step `a` of a new `a > b`, brought into a state; its child is pending."""
    session.register("z > a > b" if state == "pending" else "a > b")
    if state == "ready":
        session.pause_queue()
    a = session.steps(session.submit())["a"]
    if state in ("waiting_for_retry", "error"):
        session.fail(a, permanent=state == "error")
    assert session.step(a)["state"] == state
    return a


@pytest.mark.parametrize("state", ["pending", "ready", "enqueued", "waiting_for_retry", "error"])
def test_a_step_that_does_not_run_is_skipped_whatever_it_waits_for(protocol: Protocol, state: str) -> None:
    a = put_into(protocol, state)
    task = protocol.step(a)["task_id"]
    reply = skip(protocol, a)
    assert (reply["moved"], reply["refused"]) == ([a], [])
    row = protocol.step(a)
    assert row["state"] == "skipped"
    assert (row["ready_at"], row["enqueued_at"], row["run_after"]) == (None, None, None)
    states = protocol.states(task)
    assert states["b"] == ("ready" if state == "ready" else "enqueued")
    assert published(reply) == ([] if state == "ready" else [protocol.steps(task)["b"]])


def test_the_children_of_a_skipped_step_get_nothing_for_it(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    a, b, c = protocol.steps(protocol.submit()).values()
    skip(protocol, a)
    protocol.complete(b, result={"rows": 3})
    assert protocol.claim(c).only.row["results"] == {"a": None, "b": {"rows": 3}}


def test_what_a_skipped_step_returned_before_its_failure_is_not_handed_on(protocol: Protocol) -> None:
    protocol.register("a > b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.fail(a, permanent=True)
    skip(protocol, a)
    assert protocol.claim(b).only.row["results"] == {"a": None}


def test_a_skip_before_the_parents_finish_is_not_undone_by_it(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    won = protocol.claim(a)
    assert published(skip(protocol, b)) == [c]
    assert protocol.finish(won.complete(), keep=keep()).reply["kept"] == []
    assert protocol.states(task) == {"a": "complete", "b": "skipped", "c": "enqueued"}
    assert protocol.step(b)["parents_left"] == 0
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)


def test_a_parent_and_its_child_are_skipped_together(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    reply = skip(protocol, a, b)
    assert (sorted(reply["moved"]), published(reply)) == ([a, b], [c])
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)


def test_a_child_waits_for_the_parents_that_are_not_skipped(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    assert skip(protocol, a)["publish"] == []
    assert protocol.states(task)["c"] == "pending"
    assert protocol.complete(b).published == [c]


def test_skipping_all_that_is_left_completes_the_task(protocol: Protocol) -> None:
    protocol.register("a > b, c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    protocol.complete(a)
    skip(protocol, b, c)
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert protocol.task(task)["finished_at"] == START


def test_skipping_what_failed_brings_its_task_back(protocol: Protocol) -> None:
    protocol.register("a > b; c > d")
    task = protocol.submit()
    a, b, c, _ = protocol.steps(task).values()
    protocol.fail(a, c, permanent=True)
    assert protocol.counters(task) == ("error", 4, 0, 2)
    assert published(skip(protocol, a)) == [b]
    assert protocol.counters(task) == ("in_progress", 3, 1, 1)
    protocol.complete(b)
    assert protocol.counters(task) == ("error", 2, 0, 1)


def test_skipping_a_step_behind_what_failed_leaves_the_task_in_error(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    protocol.pass_time(3600)
    assert skip(protocol, b)["publish"] == []
    assert protocol.counters(task) == ("error", 1, 0, 1)
    assert protocol.task(task)["finished_at"] == START
    retry(protocol, a)
    protocol.complete(a)
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_a_step_that_runs_or_has_ended_is_refused(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    task, cancelled = protocol.submit(), protocol.submit()
    a, b, c = protocol.steps(task).values()
    gone = protocol.steps(cancelled)["a"]
    cancel(protocol, cancelled)
    protocol.claim(a)
    protocol.complete(b)
    reply = skip(protocol, a, b, c, gone)
    assert reply["moved"] == [c]
    assert [(item["step_id"], item["state"], item["task_state"]) for item in reply["refused"]] == [
        (a, "in_progress", "in_progress"),
        (b, "complete", "in_progress"),
        (gone, "cancelled", "cancelled"),
    ]


def test_nothing_is_skipped_in_a_task_that_has_not_started(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit(run_after_ms=60_000)
    a, b = protocol.steps(task).values()
    reply = skip(protocol, a, b)
    assert reply["moved"] == []
    assert [(item["state"], item["task_state"]) for item in reply["refused"]] == [
        ("waiting", "pending"),
        ("pending", "pending"),
    ]
    protocol.pass_time(60)
    assert published(protocol.due()) == [a]


def test_a_message_that_arrives_after_the_skip_claims_nothing(protocol: Protocol) -> None:
    protocol.register("a > b")
    a = protocol.steps(protocol.submit())["a"]
    skip(protocol, a)
    assert protocol.claim(a).ids == []


def test_a_skipped_retry_is_not_due_any_more(protocol: Protocol) -> None:
    a = put_into(protocol, "waiting_for_retry")
    skip(protocol, a)
    protocol.pass_time(3600)
    assert protocol.due()["moved"] == 0


def test_who_skipped_and_why_is_in_the_log(protocol: Protocol) -> None:
    protocol.register("a > b")
    a = protocol.steps(protocol.submit())["a"]
    moves = skip(protocol, a, moves=True)["moves"]
    assert [(move["step"], move["from"], move["to"], move["actor"], move["reason"]) for move in moves] == [
        ("a", "enqueued", "skipped", OPERATOR, REASON),
        ("b", "pending", "enqueued", OPERATOR, None),
    ]


def test_a_repeat_moves_nothing_refuses_nothing_and_publishes_again(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    first, again = skip(protocol, a), skip(protocol, a)
    assert again["publish"] == first["publish"]
    assert (again["moved"], again["refused"]) == ([], [])
    assert protocol.states(task) == {"a": "skipped", "b": "enqueued", "c": "pending"}
    protocol.claim(protocol.steps(task)["b"])
    assert skip(protocol, a)["publish"] == []


def test_the_child_of_a_paused_queue_is_held(protocol: Protocol) -> None:
    protocol.register("a > b", steps={"b": {"queue": "slow"}})
    a, b = protocol.steps(protocol.submit()).values()
    protocol.pause_queue("slow")
    assert skip(protocol, a)["publish"] == []
    protocol.resume_queue("slow")
    assert published(protocol.dispatch()) == [b]


def test_the_child_in_a_paused_task_waits_for_it(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.pause_task(task)
    assert skip(protocol, a)["publish"] == []
    assert (protocol.step(b)["state"], protocol.step(b)["ready_at"]) == ("ready", None)


def test_a_skip_that_waits_for_the_parents_finish_skips_the_child_it_enqueued(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b > c")
    task = worker.submit()
    a, b, c = worker.steps(task).values()
    won = worker.claim(a)
    with worker.connection.transaction():
        assert worker.finish(won.complete()).published == [b]
        waiting = beside.start_blocked(operator, worker, lambda: skip(operator, b))
    assert published(waiting.result()) == [c]
    assert worker.states(task) == {"a": "complete", "b": "skipped", "c": "enqueued"}
    assert worker.counters(task) == ("in_progress", 1, 1, 0)


def test_a_finish_that_waits_for_the_skip_of_the_child_leaves_it_skipped(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b > c")
    task = worker.submit()
    a, b, c = worker.steps(task).values()
    won = worker.claim(a)
    with operator.connection.transaction():
        assert published(skip(operator, b)) == [c]
        finish = beside.start_blocked(worker, operator, lambda: worker.finish(won.complete(), keep=keep()))
    assert (finish.result().ids, finish.result().published) == ([], [])
    assert worker.states(task) == {"a": "complete", "b": "skipped", "c": "enqueued"}


@pytest.mark.parametrize("first", ["claim", "skip"])
def test_of_a_claim_and_a_skip_at_the_same_time_the_first_wins(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    own = worker.worker
    if first == "claim":
        with worker.connection.transaction():
            assert worker.claim(a).ids == [a]
            skipped = beside.start_blocked(operator, worker, lambda: skip(operator, a))
        assert [item["state"] for item in skipped.result()["refused"]] == ["in_progress"]
    else:
        with operator.connection.transaction():
            assert skip(operator, a)["moved"] == [a]
            claimed = beside.start_blocked(worker, operator, lambda: worker.claim(a, worker=own))
        assert claimed.result().ids == []


def test_the_two_parents_of_a_step_are_skipped_and_finished_at_the_same_time(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a, b > c")
    task = worker.submit()
    a, b, c = worker.steps(task).values()
    won = worker.claim(a)
    with worker.connection.transaction():
        assert worker.finish(won.complete()).published == []
        waiting = beside.start_blocked(operator, worker, lambda: skip(operator, b))
    assert published(waiting.result()) == [c]
