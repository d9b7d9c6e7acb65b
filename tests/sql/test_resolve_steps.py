"""resolve_steps: an operator declares steps done elsewhere, with or without a result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, recover, resolve, retry, skip, stop
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, Won, keep, published

UNFINISHED = ["pending", "ready", "enqueued", "in_progress", "waiting_for_retry", "error"]


def put_into(session: Protocol, state: str) -> int:
    """The first step `a` of a new `a > b`, brought into a state; its child is pending."""
    session.register("z > a > b" if state == "pending" else "a > b", steps={"a": {"queue": "slow"}})
    if state == "ready":
        session.pause_queue("slow")
    a = session.steps(session.submit())["a"]
    if state == "in_progress":
        session.claim(a)
    elif state in ("waiting_for_retry", "error"):
        session.fail(a, permanent=state == "error")
    assert session.step(a)["state"] == state
    return a


@pytest.mark.parametrize("state", UNFINISHED)
def test_an_unfinished_step_is_resolved_without_a_result(protocol: Protocol, state: str) -> None:
    a = put_into(protocol, state)
    task = protocol.step(a)["task_id"]
    b = protocol.steps(task)["b"]
    reply = resolve(protocol, a)
    assert (reply["moved"], reply["refused"], published(reply)) == ([a], [], [b])
    row = protocol.step(a)
    assert row["state"] == "resolved_manually"
    assert (row["ready_at"], row["enqueued_at"], row["run_after"], row["worker_id"]) == (None,) * 4
    assert protocol.claim(b).only.row["results"] == {"a": None}


@pytest.mark.parametrize("state", UNFINISHED)
def test_an_unfinished_step_is_completed_with_a_result(protocol: Protocol, state: str) -> None:
    a = put_into(protocol, state)
    task = protocol.step(a)["task_id"]
    b = protocol.steps(task)["b"]
    assert published(resolve(protocol, a, results={a: {"paid": "by hand"}})) == [b]
    assert protocol.step(a)["state"] == "complete"
    assert protocol.claim(b).only.row["results"] == {"a": {"paid": "by hand"}}
    told = protocol.call("step_results", task, ["a"])["a"]
    assert (told["state"], told["result"]) == ("complete", {"paid": "by hand"})


def test_each_of_several_steps_completes_with_its_own_result(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    a, b, c = protocol.steps(protocol.submit()).values()
    assert published(resolve(protocol, a, b, results={a: [1], b: None})) == [c]
    assert protocol.claim(c).only.row["results"] == {"a": [1], "b": None}


def test_the_operators_turn_is_an_attempt_of_its_own(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.claim(a)
    resolve(protocol, a, results={a: 7})
    ran, by_hand = protocol.attempts(a)
    assert (ran["outcome"], ran["finished_at"], ran["result"]) == ("resolved_manually", START, None)
    assert (by_hand["outcome"], by_hand["finished_at"], by_hand["result"]) == ("complete", START, 7)
    assert by_hand["worker_id"] is None
    assert by_hand["claim_id"] != ran["claim_id"]


@pytest.mark.parametrize("with_result", [True, False])
def test_the_late_finish_of_a_handler_that_still_runs_is_refused(
    protocol: Protocol, *, with_result: bool
) -> None:
    protocol.register("a > b")
    protocol.expect(work=1)
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a)
    resolve(protocol, a, results={a: "by hand"} if with_result else None)
    reply = protocol.finish(won.complete("too late"), keep=keep())
    assert (reply.ids, reply.reply["refused"]) == ([], [a])
    assert protocol.attempts(a)[0]["late"] == {"kind": "complete", "result": "too late", "error": None}
    assert protocol.claim(b).only.row["results"] == {"a": "by hand" if with_result else None}


@pytest.mark.parametrize("permanent", [True, False])
def test_the_late_failure_of_a_handler_that_still_runs_is_refused(
    protocol: Protocol, *, permanent: bool
) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    resolve(protocol, a)
    assert protocol.finish(won.fail(permanent=permanent)).reply["refused"] == [a]
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert protocol.attempts(a)[0]["late"]["kind"] == "failure"


def test_a_release_after_the_resolve_gives_nothing_back(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    resolve(protocol, a)
    assert protocol.release(won)["publish"] == []
    assert protocol.step(a)["state"] == "resolved_manually"


def test_a_neighbour_of_the_late_finish_is_recorded(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    won = protocol.claim(a, b)
    resolve(protocol, a)
    reply = protocol.finish(won.complete())
    assert (reply.reply["refused"], reply.published) == ([a], [c])


def test_a_resolve_before_the_parents_finish_is_not_undone_by_it(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    won = protocol.claim(a)
    assert published(resolve(protocol, b, results={b: "by hand"})) == [c]
    assert protocol.finish(won.complete("from a"), keep=keep()).reply["publish"] == []
    assert protocol.states(task) == {"a": "complete", "b": "complete", "c": "enqueued"}
    assert protocol.claim(c).only.row["results"] == {"b": "by hand"}


def test_resolving_what_failed_brings_its_task_back_or_completes_it(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    resolve(protocol, a)
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)
    resolve(protocol, b)
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert protocol.task(task)["finished_at"] == START


def test_all_of_a_paused_task_may_be_resolved_and_completes_it(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.pause_task(task)
    assert resolve(protocol, a)["publish"] == []
    assert protocol.step(b)["state"] == "ready"
    resolve(protocol, b)
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_steps_that_have_ended_otherwise_are_refused(protocol: Protocol) -> None:
    protocol.register("a, b, c, d")
    task, cancelled = protocol.submit(), protocol.submit()
    a, b, c, d = protocol.steps(task).values()
    gone = protocol.steps(cancelled)["a"]
    cancel(protocol, cancelled)
    protocol.complete(a)
    skip(protocol, b)
    reply = resolve(protocol, a, b, c, gone)
    assert reply["moved"] == [c]
    assert [(item["step_id"], item["state"]) for item in reply["refused"]] == [
        (a, "complete"),
        (b, "skipped"),
        (gone, "cancelled"),
    ]
    reply = resolve(protocol, c, d, results={c: 1, d: 2})
    assert (reply["moved"], [item["step_id"] for item in reply["refused"]]) == ([d], [c])


def test_nothing_is_resolved_in_a_task_that_has_not_started(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit(run_after_ms=60_000)
    reply = resolve(protocol, *protocol.steps(task).values())
    assert reply["moved"] == []
    assert {item["task_state"] for item in reply["refused"]} == {"pending"}
    assert protocol.attempts(protocol.steps(task)["a"]) == []


@pytest.mark.parametrize("with_result", [True, False])
def test_a_repeat_moves_nothing_refuses_nothing_and_publishes_again(
    protocol: Protocol, *, with_result: bool
) -> None:
    protocol.register("a > b")
    a, b = protocol.steps(protocol.submit()).values()
    results = {a: 1} if with_result else None
    first, again = resolve(protocol, a, results=results), resolve(protocol, a, results=results)
    assert again["publish"] == first["publish"]
    assert (again["moved"], again["refused"]) == ([], [])
    assert len(protocol.attempts(a)) == 1
    protocol.claim(b)
    assert resolve(protocol, a, results=results)["publish"] == []


def test_who_resolved_and_why_is_in_the_log(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    moves = resolve(protocol, a, moves=True)["moves"]
    told = [(move["step"], move["to"], move["attempt"], move["actor"], move["reason"]) for move in moves]
    assert told == [("a", "resolved_manually", 1, OPERATOR, REASON), (None, "complete", None, OPERATOR, None)]


def test_the_child_of_a_paused_queue_is_held(protocol: Protocol) -> None:
    protocol.register("a > b", steps={"b": {"queue": "slow"}})
    a, b = protocol.steps(protocol.submit()).values()
    protocol.pause_queue("slow")
    assert resolve(protocol, a)["publish"] == []
    protocol.resume_queue("slow")
    assert published(protocol.dispatch()) == [b]


def test_the_steps_of_a_dead_worker_stay_resolved(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.claim(a)
    resolve(protocol, a)
    stop(protocol, protocol.worker)
    assert recover(protocol)["moved"] == 0


def test_the_attempt_after_a_retry_is_numbered_on(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.fail(a, b, permanent=True)
    resolve(protocol, a)
    retry(protocol, b)
    assert protocol.claim(b).only.row["attempt"] == 2
    assert [attempt["attempt"] for attempt in protocol.attempts(a)] == [1, 2]


@pytest.mark.parametrize("first", ["finish", "resolve"])
def test_of_a_finish_and_a_resolve_at_the_same_time_the_first_wins(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit()
    a, b = worker.steps(task).values()
    won = worker.claim(a)

    def finish() -> Won:
        return worker.finish(won.complete("by the handler"))

    if first == "finish":
        with worker.connection.transaction():
            assert finish().published == [b]
            resolved = beside.start_blocked(operator, worker, lambda: resolve(operator, a))
        assert [item["state"] for item in resolved.result()["refused"]] == ["complete"]
        assert worker.claim(b).only.row["results"] == {"a": "by the handler"}
    else:
        with operator.connection.transaction():
            assert published(resolve(operator, a)) == [b]
            finished = beside.start_blocked(worker, operator, finish)
        assert finished.result().reply["refused"] == [a]
        assert worker.states(task) == {"a": "resolved_manually", "b": "enqueued"}


def test_the_two_parents_of_a_step_are_resolved_and_finished_at_the_same_time(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a, b > c")
    a, b, c = worker.steps(worker.submit()).values()
    won = worker.claim(a)
    with operator.connection.transaction():
        assert resolve(operator, b)["publish"] == []
        waiting = beside.start_blocked(worker, operator, lambda: worker.finish(won.complete()))
    assert waiting.result().published == [c]


def test_a_release_and_a_resolve_at_the_same_time_do_not_enqueue_what_is_resolved(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    won = worker.claim(a)
    with operator.connection.transaction():
        assert resolve(operator, a)["moved"] == [a]
        waiting = beside.start_blocked(worker, operator, lambda: worker.release(won))
    assert waiting.result()["publish"] == []
    assert worker.step(a)["state"] == "resolved_manually"
