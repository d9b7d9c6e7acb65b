"""finish_steps: what it records and publishes, who is refused, repeats, and finishes that meet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.sql.actions import stop
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, keep, published

# What is recorded


@pytest.mark.parametrize("result", [{"n": [1, None]}, [], "text", 0, False])
def test_a_completed_attempt_keeps_its_result_and_times(protocol: Protocol, result: Any) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    protocol.pass_time(10)
    reply = protocol.finish([won.only.complete(result, started_ms_ago=2500)]).reply
    assert (reply["refused"], reply["kept"], reply["publish"]) == ([], [], [])

    (attempt,) = protocol.attempts(a)
    assert (attempt["outcome"], attempt["result"], attempt["error"]) == ("complete", result, None)
    assert attempt["claimed_at"] == START
    assert attempt["started_at"] == START + timedelta(seconds=7.5)
    assert attempt["finished_at"] == START + timedelta(seconds=10)
    assert protocol.log(task)[-2:] == [
        ("a", "in_progress", "complete"),
        (None, "in_progress", "complete"),
    ]
    assert protocol.task(task)["finished_at"] == START + timedelta(seconds=10)


def test_an_attempt_never_started_before_it_was_claimed(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.finish([protocol.claim(a).only.complete(started_ms_ago=60_000)])
    assert protocol.attempts(a)[0]["started_at"] == START


def test_a_chain_runs_to_its_end(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    assert protocol.complete(a).published == [b]
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)
    assert protocol.complete(b).published == [c]
    assert protocol.complete(c).published == []
    assert protocol.counters(task) == ("complete", 0, 0, 0)
    assert protocol.log_of(b) == ["enqueued", "in_progress", "complete"]


def test_a_diamond_finished_in_one_batch_opens_its_last_step_once(protocol: Protocol) -> None:
    protocol.register("a > b, c > d")
    task = protocol.submit()
    a, b, c, d = protocol.steps(task).values()
    assert protocol.complete(a).published == [b, c]
    done = protocol.complete(b, c)
    assert done.published == [d]
    assert protocol.step(d)["parents_left"] == 0
    assert protocol.log_of(d) == ["enqueued"]
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)


def test_children_that_lose_different_numbers_of_parents_at_once_all_count_right(protocol: Protocol) -> None:
    protocol.register("a, b, c > all; a, b > two; a > one; a, d > half; d")
    steps = protocol.steps(protocol.submit())
    done = protocol.complete(steps["a"], steps["b"], steps["c"])
    left = {name: protocol.step(steps[name])["parents_left"] for name in ("all", "two", "one", "half")}
    assert left == {"all": 0, "two": 0, "one": 0, "half": 1}
    assert done.published == sorted(steps[name] for name in ("all", "two", "one"))


def test_a_batch_spans_tasks_claims_and_outcomes(protocol: Protocol) -> None:
    protocol.register("a > b")
    tasks = [protocol.submit() for _ in range(3)]
    steps = [protocol.steps(task) for task in tasks]
    claims = [protocol.claim(of_task["a"]) for of_task in steps]
    outcomes = [
        *claims[2].complete(),
        *claims[0].fail(),
        *claims[1].fail(permanent=True),
    ]
    assert protocol.finish(outcomes).published == [steps[2]["b"]]
    assert [protocol.counters(task) for task in tasks] == [
        ("in_progress", 2, 1, 0),
        ("error", 2, 0, 1),
        ("in_progress", 1, 1, 0),
    ]


def test_an_outcome_doubled_in_a_batch_counts_once(protocol: Protocol) -> None:
    protocol.register("a > b; c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    won = protocol.claim(a, c)
    outcomes = [won.attempts[a].complete(), won.attempts[c].fail()] * 2
    reply = protocol.finish(outcomes)
    assert (reply.published, reply.reply["refused"]) == ([b], [])
    assert protocol.step(c)["failures"] == 1


def test_nothing_to_record_changes_nothing(protocol: Protocol) -> None:
    reply = protocol.finish([], keep=keep()).reply
    assert (reply["kept"], reply["publish"], reply["refused"]) == ([], [], [])


def test_the_moves_are_reported_when_asked_for(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    done = protocol.finish(protocol.claim(a).complete(), keep=keep(), moves=True)
    moves = [(move["step"], move["from"], move["to"]) for move in done.reply["moves"]]
    assert moves == [
        ("a", "in_progress", "complete"),
        ("b", "pending", "enqueued"),
        ("b", "enqueued", "in_progress"),
    ]
    last = protocol.finish(done.complete(), moves=True).reply["moves"]
    assert [(move["step"], move["step_id"], move["to"]) for move in last] == [
        ("b", b, "complete"),
        (None, None, "complete"),
    ]


# One bad outcome


def test_an_outcome_that_the_database_refuses_leaves_its_whole_batch_to_be_sent_in_halves(
    protocol: Protocol,
) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    won = protocol.claim(a, b)
    good, bad = won.attempts[a].complete(), won.attempts[b].fail(retry_after_ms=1e300)
    with protocol.refused("22008"):
        protocol.finish([good, bad])
    assert protocol.states(task) == {"a": "in_progress", "b": "in_progress", "c": "pending"}

    assert protocol.finish([good]).reply["refused"] == []
    with protocol.refused("22008"):
        protocol.finish([bad])
    protocol.finish([won.attempts[b].fail(permanent=True)])
    assert protocol.states(task) == {"a": "complete", "b": "error", "c": "pending"}
    assert protocol.step(c)["parents_left"] == 1


# Who may finish


def test_a_stopped_worker_keeps_nothing_and_nothing_is_recorded(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    stop(protocol, protocol.worker)
    with protocol.refused("TK001"):
        protocol.finish(won.complete(), keep=keep())
    assert protocol.states(task) == {"a": "in_progress", "b": "pending"}
    assert protocol.finish(won.complete()).reply["refused"] == []
    assert protocol.states(task) == {"a": "complete", "b": "enqueued"}


def test_a_child_of_a_stopped_main_keeps_nothing(protocol: Protocol) -> None:
    protocol.register("a > b")
    child = protocol.register_worker(parent=protocol.worker, kind="child", queues=[], handlers=[])
    won = protocol.claim(protocol.steps(protocol.submit())["a"], worker=child)
    stop(protocol, protocol.worker)
    with protocol.refused("TK001"):
        protocol.finish(won.complete(), keep=keep(), worker=child)


@pytest.mark.parametrize("field", ["attempt", "claim_id", "step_id"])
@pytest.mark.parametrize("kind", ["complete", "failure"])
def test_an_outcome_with_a_wrong_fence_is_refused(protocol: Protocol, field: str, kind: str) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    attempt = protocol.claim(a).only
    outcome = attempt.complete() if kind == "complete" else attempt.fail()
    wrong = {"attempt": 2, "claim_id": str(uuid4()), "step_id": 10**12}[field]
    reply = protocol.finish([outcome | {field: wrong}]).reply
    assert reply["refused"] == [wrong if field == "step_id" else a]
    assert protocol.states(task) == {"a": "in_progress", "b": "pending"}
    assert protocol.attempts(a)[0]["late"] is None


# A reply that got lost


def test_a_repeat_publishes_again_and_records_nothing_more(protocol: Protocol) -> None:
    protocol.register("a, b > c, d; b > e")
    task = protocol.submit()
    a, b, c, d, _ = protocol.steps(task).values()
    won = protocol.claim(a, b)
    outcomes = [won.attempts[a].complete("first"), won.attempts[b].fail()]
    protocol.finish([won.attempts[a].complete("first")])
    first = protocol.finish(outcomes)
    log = protocol.log(task)
    assert protocol.finish(outcomes).reply == first.reply
    assert first.reply["refused"] == []
    assert (protocol.log(task), protocol.step(b)["failures"]) == (log, 1)
    assert {protocol.step(step)["parents_left"] for step in (c, d)} == {1}


def test_a_repeat_returns_the_same_kept_steps_and_the_same_publication(protocol: Protocol) -> None:
    protocol.register("a > b, c, d", steps={"d": {"queue": "other"}})
    protocol.expect(work=1)
    task = protocol.submit()
    a, b, c, d = protocol.steps(task).values()
    won, claim_id = protocol.claim(a), uuid4()
    offer = keep(most=1)
    first = protocol.finish(won.complete(), keep=offer, claim_id=claim_id)
    log = protocol.log(task)
    assert (first.ids, first.published) == ([b], [c, d])
    assert protocol.finish(won.complete(), keep=offer, claim_id=claim_id).reply == first.reply
    assert protocol.log(task) == log

    protocol.claim(c)
    again = protocol.finish(won.complete(), keep=offer, claim_id=claim_id)
    assert (again.ids, again.published) == ([b], [d])


def test_a_repeat_beside_the_running_first_call_waits_and_returns_the_same_rows(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a > b, c")
    a, b, c = first.steps(first.submit()).values()
    outcomes, claim_id, worker = first.claim(a).complete(), uuid4(), first.worker
    with first.connection.transaction():
        done = first.finish(outcomes, keep=keep(), claim_id=claim_id)
        repeat = beside.start_blocked(
            second, first, lambda: second.finish(outcomes, keep=keep(), claim_id=claim_id, worker=worker)
        )
    assert (done.ids, done.published) == ([b], [c])
    assert repeat.result().reply == done.reply


def test_a_finish_that_waited_for_one_rolled_back_records(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a > b")
    task = first.submit()
    a, b = first.steps(task).values()
    outcomes = first.claim(a).complete()
    worker = first.worker
    with first.connection.transaction(force_rollback=True):
        first.finish(outcomes)
        repeat = beside.start_blocked(second, first, lambda: second.finish(outcomes, worker=worker))
    assert repeat.result().published == [b]
    assert first.counters(task) == ("in_progress", 1, 1, 0)


def test_the_children_of_a_finish_are_claimed_by_whoever_gets_the_message(protocol: Protocol) -> None:
    protocol.register("a > b, c")
    task = protocol.submit(context={"order": 7})
    a, b, c = protocol.steps(task).values()
    reply = protocol.complete(a, result={"n": 1}).reply
    assert reply["publish"] == [[QUEUE, None, None, [b, c]]]
    other = protocol.register_worker()
    won = protocol.claim(*published(reply), worker=other)
    assert [attempt.row["results"] for attempt in won.attempts.values()] == [{"a": {"n": 1}}] * 2
