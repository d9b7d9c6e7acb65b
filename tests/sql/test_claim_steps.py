"""claim_steps: what a worker wins, what it is told, what is given back, and claims that meet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tasker.domain.retry import Retry
from tests.sql.actions import cancel, recover, resolve, skip, stop
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, published

STRICT = Retry(max_attempts=5, never_for=("ValueError",))


def ready_since(protocol: Protocol, step: int) -> tuple[str, object, object]:
    """(state, ready_at, run_after) of a step."""
    row = protocol.step(step)
    return row["state"], row["ready_at"], row["run_after"]


# What is won


def test_a_step_is_won_with_all_that_its_worker_needs(protocol: Protocol) -> None:
    protocol.register("a", retry=STRICT, config={"url": "x"}, timeout_seconds=2.5)
    task = protocol.submit(context={"order": 7})
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    assert won.only.row == {
        "id": a,
        "task_id": str(task),
        "name": "a",
        "handler": "work",
        "attempt": 1,
        "failures": 0,
        "max_attempts": 5,
        "never_for": ["ValueError"],
        "timeout_ms": 2500,
        "config": {"url": "x"},
        "queue": QUEUE,
        "parents": 0,
        "transactional": False,
        "results": None,
    }
    assert won.reply["given_back"] == []


def test_what_is_won_is_recorded(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.pass_time(4)
    won = protocol.claim(a)
    step = protocol.step(a)
    assert (step["state"], step["attempt"], step["enqueued_at"]) == ("in_progress", 1, None)
    assert (step["claim_id"], step["worker_id"]) == (won.claim_id, protocol.worker)
    (attempt,) = protocol.attempts(a)
    assert (attempt["claim_id"], attempt["worker_id"]) == (won.claim_id, protocol.worker)
    assert (attempt["claimed_at"], attempt["outcome"]) == (START + timedelta(seconds=4), None)
    assert protocol.log(task)[-1] == ("a", "enqueued", "in_progress")
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)


def test_the_context_of_a_task_comes_once_for_all_its_steps(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    correlation = str(uuid4())
    one = protocol.submit(context={"order": 1}, correlation_id=correlation)
    two = protocol.submit(context={"order": 2})
    won = protocol.claim(*protocol.steps(one).values(), *protocol.steps(two).values())
    assert len(won.ids) == 6
    contexts = won.reply["contexts"]
    assert contexts.keys() == {str(one), str(two)}
    assert contexts[str(one)]["context"] == {"order": 1}
    assert contexts[str(one)]["correlation_id"] == correlation
    assert contexts[str(two)]["correlation_id"] == str(two)


@pytest.mark.parametrize("result", [{"n": 1}, [], "text", 0, False, None])
def test_a_step_is_given_the_results_of_its_parents(protocol: Protocol, result: Any) -> None:
    protocol.register("a, b > c")
    a, b, c = protocol.steps(protocol.submit()).values()
    protocol.complete(a, result=result)
    protocol.complete(b, result="other")
    assert protocol.claim(c).only.row["results"] == {"a": result, "b": "other"}


def test_a_parents_result_is_that_of_its_last_attempt(protocol: Protocol) -> None:
    protocol.register("a > b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.fail(a)
    protocol.pass_time(1)
    protocol.due()
    protocol.complete(a, result="second")
    assert protocol.claim(b).only.row["results"] == {"a": "second"}
    (sent,) = protocol.rows("select tasker.parent_results(%s)::text as results", [b])
    assert sent["results"].count('"a"') == 1


def test_a_parent_skipped_or_resolved_gives_nothing_and_one_completed_by_hand_its_result(
    protocol: Protocol,
) -> None:
    protocol.register("a, b, c > d")
    a, b, c, d = protocol.steps(protocol.submit()).values()
    protocol.claim(c)
    skip(protocol, a)
    resolve(protocol, b)
    resolve(protocol, c, results={c: "by hand"})
    assert protocol.claim(d).only.row["results"] == {"a": None, "b": None, "c": "by hand"}


@pytest.mark.parametrize(("parents", "sent"), [(100, True), (101, False)])
def test_results_of_more_than_a_hundred_parents_are_not_sent_along(
    protocol: Protocol, parents: int, *, sent: bool
) -> None:
    names = [f"p{number}" for number in range(parents)]
    protocol.register(f"{', '.join(names)} > last")
    protocol.expect(work=1)
    *roots, last = protocol.steps(protocol.submit()).values()
    protocol.complete(*roots, result=1)
    row = protocol.claim(last).only.row
    assert row["parents"] == parents
    assert row["results"] == (dict.fromkeys(names, 1) if sent else None)


@pytest.mark.parametrize("state", ["pending", "in_progress", "waiting_for_retry", "complete", "error"])
def test_a_step_that_is_not_enqueued_is_absent(protocol: Protocol, state: str) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, _, c = protocol.steps(task).values()
    match state:
        case "in_progress":
            protocol.claim(a)
        case "waiting_for_retry":
            protocol.fail(a)
        case "complete":
            protocol.complete(a)
        case "error":
            protocol.fail(a, permanent=True)
    step = c if state == "pending" else a
    assert protocol.step(step)["state"] == state
    before = protocol.log(task), protocol.step(step)
    won = protocol.claim(step)
    assert (won.ids, won.reply["given_back"]) == ([], [])
    assert (protocol.log(task), protocol.step(step)) == before


def test_an_id_named_twice_or_unknown_changes_nothing_for_the_others(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    won = protocol.claim(b, 10**12, a, b)
    assert won.ids == [a, b]
    assert protocol.claim().reply["steps"] == []


def test_the_moves_are_reported_when_asked_for(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    reply = protocol.claim(a, moves=True).reply
    assert [(move["step"], move["from"], move["to"]) for move in reply["moves"]] == [
        ("a", "enqueued", "in_progress")
    ]
    assert protocol.claim(b).reply["moves"] is None


# Who may claim


def test_a_stopped_worker_and_the_children_of_a_stopped_main_are_refused(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    child = protocol.register_worker(parent=protocol.worker, kind="child", queues=[], handlers=[])
    stop(protocol, protocol.worker)
    for worker in (protocol.worker, child):
        with protocol.refused("TK001"):
            protocol.claim(a, worker=worker)
    assert protocol.step(a)["state"] == "enqueued"


def test_a_child_claims_with_the_handlers_of_its_main(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    child = protocol.register_worker(parent=protocol.worker, kind="child", queues=[], handlers=[])
    assert protocol.claim(a, worker=child).ids == [a]


# What is given back


def test_steps_of_a_paused_queue_are_given_back_and_found_when_it_resumes(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"queue": "slow"}})
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.pause_queue("slow")
    won = protocol.claim(a, b)
    assert (won.ids, won.reply["given_back"]) == ([a], [b])
    assert ready_since(protocol, b) == ("ready", START, None)
    assert (protocol.step(b)["attempt"], protocol.step(b)["enqueued_at"]) == (0, None)
    assert protocol.counters(task) == ("in_progress", 2, 2, 0)

    assert published(protocol.dispatch()) == []
    protocol.resume_queue("slow")
    assert published(protocol.dispatch()) == [b]
    assert protocol.claim(b).ids == [b]


def test_steps_of_a_paused_task_are_given_back_out_of_the_dispatch_loops_sight(protocol: Protocol) -> None:
    protocol.register("a")
    paused, other = protocol.submit(), protocol.submit()
    a, neighbour = protocol.steps(paused)["a"], protocol.steps(other)["a"]
    protocol.pause_task(paused)
    won = protocol.claim(a, neighbour)
    assert (won.ids, won.reply["given_back"]) == ([neighbour], [a])
    assert ready_since(protocol, a) == ("ready", None, None)
    assert published(protocol.dispatch()) == []
    protocol.resume_task(paused)
    assert published(protocol.dispatch()) == [a]


def test_a_closed_gate_does_not_stop_what_is_published_already(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.close_gate()
    assert protocol.claim(a).ids == [a]


def test_a_step_whose_handler_the_worker_lacks_is_given_back_and_the_others_are_won(
    protocol: Protocol,
) -> None:
    protocol.register("a, b, c", steps={"b": {"handler": "missing"}})
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    won = protocol.claim(a, b, c)
    assert (won.ids, won.reply["given_back"]) == ([a, c], [b])
    assert ready_since(protocol, b) == ("ready", None, START + timedelta(seconds=1))
    logged = protocol.row(
        "select to_state, reason from tasker.transitions where step_id = %s order by seq desc limit 1", [b]
    )
    assert logged == {"to_state": "ready", "reason": "handler_missing"}
    assert protocol.counters(task) == ("in_progress", 3, 3, 0)


def test_a_step_given_back_is_offered_again_after_1_2_and_then_4_seconds(protocol: Protocol) -> None:
    protocol.register("a", handler="missing")
    a = protocol.steps(protocol.submit())["a"]
    able = protocol.register_worker(handlers=["missing"])
    pauses = []
    for _ in range(5):
        assert protocol.claim(a).reply["given_back"] == [a]
        pauses.append((protocol.step(a)["run_after"] - protocol.now).total_seconds())
        protocol.pass_time(pauses[-1])
        protocol.due()
        assert published(protocol.dispatch()) == [a]
    assert pauses == [1, 2, 4, 4, 4]

    won = protocol.claim(a, worker=able)
    assert won.ids == [a]
    protocol.release(won)
    protocol.claim(a)
    assert protocol.step(a)["run_after"] - protocol.now == timedelta(seconds=1)


def test_a_held_step_without_a_handler_is_given_back_once_and_as_held(protocol: Protocol) -> None:
    protocol.register("a", handler="missing")
    a = protocol.steps(protocol.submit())["a"]
    protocol.pause_queue()
    assert protocol.claim(a).reply["given_back"] == [a]
    assert ready_since(protocol, a) == ("ready", START, None)


# Claims that meet


def test_a_repeat_returns_the_same_rows_and_wins_nothing_more(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, b, _ = protocol.steps(task).values()
    first = protocol.claim(a, b)
    log = protocol.log(task)
    assert protocol.claim(a, b, claim_id=first.claim_id).reply == first.reply
    assert (protocol.log(task), len(protocol.attempts(a))) == (log, 1)


def test_a_repeat_after_some_are_finished_returns_the_others(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    first = protocol.claim(a, b)
    protocol.finish([first.attempts[a].complete()])
    assert protocol.claim(a, b, claim_id=first.claim_id).ids == [b]


def test_a_repeat_beside_the_running_first_call_waits_and_returns_the_same_rows(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a, b")
    a, b = first.steps(first.submit()).values()
    claim_id, worker = uuid4(), first.worker
    with first.connection.transaction():
        won = first.claim(a, b, claim_id=claim_id)
        repeat = beside.start_blocked(
            second, first, lambda: second.claim(b, a, claim_id=claim_id, worker=worker)
        )
    assert repeat.result().reply == won.reply
    assert won.ids == [a, b]


def test_a_message_doubled_to_two_children_runs_each_step_once(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a, b, c")
    a, b, c = first.steps(first.submit()).values()
    worker = second.worker
    with first.connection.transaction():
        mine = first.claim(a, b)
        doubled = beside.start_blocked(second, first, lambda: second.claim(a, b, c, worker=worker))
    theirs = doubled.result()
    assert (mine.ids, theirs.ids) == ([a, b], [c])
    assert [first.step(step)["attempt"] for step in (a, b, c)] == [1, 1, 1]
    assert second.claim(a, b, c).ids == []


def test_a_claim_that_waited_for_one_rolled_back_wins(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a")
    a = first.steps(first.submit())["a"]
    worker, _ = second.worker, first.worker
    with first.connection.transaction(force_rollback=True):
        first.claim(a)
        other = beside.start_blocked(second, first, lambda: second.claim(a, worker=worker))
    assert other.result().ids == [a]
    assert first.step(a)["worker_id"] == worker


def test_a_claim_id_wins_a_step_once(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    won = protocol.claim(a, b)
    protocol.release(won, a)
    again = protocol.claim(a, b, claim_id=won.claim_id)
    assert again.ids == [b]
    assert protocol.step(a)["state"] == "enqueued"
    assert protocol.claim(a).only.row["attempt"] == 2


def test_a_claim_id_that_gave_a_step_back_does_not_win_it_after_it_was_lost(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    doomed = protocol.register_worker()
    lost = protocol.claim(a, worker=doomed)
    stop(protocol, doomed)
    recover(protocol)
    assert protocol.step(a)["state"] == "enqueued"
    assert protocol.claim(a, claim_id=lost.claim_id).ids == []


def test_claims_that_name_the_same_steps_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    holder, first, second = open_session(), open_session(), open_session()
    holder.register("a, b, c")
    a, b, c = holder.steps(holder.submit()).values()
    workers = first.worker, second.worker
    with holder.connection.transaction():
        holder.rows("select 1 from tasker.steps where id = %s for no key update", [b])
        one = beside.start_blocked(first, holder, lambda: first.claim(a, b, c, worker=workers[0]))
        two = beside.start(lambda: second.claim(c, b, a, worker=workers[1]))
        beside.wait_until_blocked(second, two)
    assert (one.result().ids, two.result().ids) == ([a, b, c], [])


def test_a_claim_waits_for_a_cancel_and_then_wins_nothing(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    operator, worker = open_session(), open_session()
    operator.register("a")
    task = operator.submit()
    a, own = operator.steps(task)["a"], worker.worker
    with operator.connection.transaction():
        cancel(operator, task)
        claiming = beside.start_blocked(worker, operator, lambda: worker.claim(a, worker=own))
    assert claiming.result().ids == []
    assert operator.states(task) == {"a": "cancelled"}
