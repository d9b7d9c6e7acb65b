"""park_by_hand: an operator takes a step out that does not run, and a retry puts it back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, park_by_hand, recover, resolve, retry, skip, stop
from tests.sql.beside import Beside
from tests.sql.protocol import Protocol, keep, published


def test_a_parked_step_is_in_error_with_a_letter_that_says_by_whom_and_why(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    reply = park_by_hand(protocol, a, moves=True)
    assert (reply["moved"], reply["refused"]) == ([a], [])
    assert [(move["from"], move["to"], move["actor"], move["reason"]) for move in reply["moves"]] == [
        ("enqueued", "error", OPERATOR, REASON)
    ]
    assert protocol.counters(task) == ("in_progress", 2, 1, 1)
    letter = protocol.row("select reason, error, closed_at from tasker.dead_letters")
    assert letter == {"reason": "parked", "error": {"type": "parked", "message": REASON}, "closed_at": None}


def test_without_reason_and_name_it_is_the_databases_user_who_parks(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.connection.execute("select tasker.park_by_hand(array[%s], null, null, false)", [a])
    assert protocol.row("select reason, error ->> 'message' as message from tasker.dead_letters") == {
        "reason": "parked",
        "message": "no handler raised it",
    }
    log = protocol.row(
        "select actor = session_user as own from tasker.transitions where to_state = 'error' limit 1"
    )
    assert log == {"own": True}


@pytest.mark.parametrize("words", ["deadline", "worker_lost", 'it\'s "over"'])
def test_whatever_the_operator_says_the_letters_reason_is_parked(protocol: Protocol, words: str) -> None:
    protocol.register("a")
    park_by_hand(protocol, protocol.steps(protocol.submit())["a"], reason=words)
    assert protocol.row("select reason, error ->> 'message' as message from tasker.dead_letters") == {
        "reason": "parked",
        "message": words,
    }


def test_every_state_that_does_not_run_and_is_not_final_can_be_parked(protocol: Protocol) -> None:
    protocol.register("a, b > c; d, e", steps={"e": {"queue": "slow"}})
    protocol.pause_queue("slow")
    task = protocol.submit()
    a, b, c, d, e = protocol.steps(task).values()
    protocol.fail(a)
    protocol.claim(b)
    protocol.complete(d)
    states = {"a": "waiting_for_retry", "b": "in_progress", "c": "pending", "d": "complete", "e": "ready"}
    assert protocol.states(task) == states
    reply = park_by_hand(protocol, a, b, c, d, e)
    assert sorted(reply["moved"]) == [a, c, e]
    assert {item["step"]: item["state"] for item in reply["refused"]} == {"b": "in_progress", "d": "complete"}
    assert protocol.states(task) == {
        "a": "error", "b": "in_progress", "c": "error", "d": "complete", "e": "error"
    }  # fmt: skip
    times = protocol.rows("select run_after, ready_at, enqueued_at from tasker.steps where state = 'error'")
    assert [list(row.values()) for row in times] == [[None, None, None]] * 3


def test_a_step_of_a_task_that_has_not_started_is_refused(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(run_after_ms=60_000)
    reply = park_by_hand(protocol, protocol.steps(task)["a"])
    assert (reply["moved"], [item["task_state"] for item in reply["refused"]]) == ([], ["pending"])


def test_a_parked_step_does_not_start_when_its_parents_complete(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    won = protocol.claim(a)
    park_by_hand(protocol, b)
    finished = protocol.finish(won.complete(), keep=keep())
    assert (finished.ids, finished.published) == ([], [])
    assert protocol.counters(task) == ("error", 1, 0, 1)
    assert published(retry(protocol, b)) == [b]
    protocol.complete(b)
    assert protocol.counters(task) == ("complete", 0, 0, 0)


def test_retried_while_a_parent_is_open_it_waits_for_it_again(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    park_by_hand(protocol, b, c)
    reply = retry(protocol, b, c)
    assert (reply["moved"], published(reply), reply["refused"]) == ([b, c], [], [])
    again = retry(protocol, b, c)
    assert (again["moved"], again["refused"]) == ([], [])
    assert protocol.states(task) == {"a": "enqueued", "b": "pending", "c": "pending"}
    assert protocol.counters(task) == ("in_progress", 3, 1, 0)
    assert protocol.complete(a).published == [b]


def test_parked_behind_a_failed_parent_it_revives_nothing_by_itself(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    park_by_hand(protocol, b)
    assert protocol.counters(task) == ("error", 2, 0, 2)
    retry(protocol, b)
    assert protocol.counters(task) == ("error", 2, 0, 1)
    retry(protocol, a)
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)


def test_a_held_step_of_a_paused_task_is_held_again_after_its_retry(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.pause_task(task)
    park_by_hand(protocol, a)
    retry(protocol, a)
    step = protocol.step(a)
    assert (step["state"], step["ready_at"]) == ("ready", None)


@pytest.mark.parametrize("end", [skip, resolve])
def test_an_operator_can_end_it_otherwise(protocol: Protocol, end: Callable[[Protocol, int], object]) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a, b = protocol.steps(task).values()
    park_by_hand(protocol, b)
    end(protocol, b)
    protocol.complete(a)
    assert protocol.counters(task)[0] == "complete"


def test_its_message_that_arrives_claims_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    park_by_hand(protocol, a)
    assert protocol.claim(a).ids == []


def test_a_repeat_parks_nothing_and_refuses_nothing(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    cancelled = protocol.submit()
    cancel(protocol, cancelled)
    park_by_hand(protocol, a)
    again = park_by_hand(protocol, a, *protocol.steps(cancelled).values())
    assert again["moved"] == []
    assert {item["state"] for item in again["refused"]} == {"cancelled"}
    assert protocol.row("select count(*) from tasker.dead_letters")["count"] == 1


def test_a_claim_that_waits_for_the_parking_wins_nothing(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    own = worker.worker
    with operator.connection.transaction():
        assert park_by_hand(operator, a)["moved"] == [a]
        claim = beside.start_blocked(worker, operator, lambda: worker.claim(a, worker=own))
    assert claim.result().ids == []


def test_a_parking_that_waits_for_a_claim_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    with worker.connection.transaction():
        assert worker.claim(a).ids == [a]
        parking = beside.start_blocked(operator, worker, lambda: park_by_hand(operator, a))
    reply = parking.result()
    assert (reply["moved"], reply["refused"][0]["state"]) == ([], "in_progress")
    assert worker.rows("select id from tasker.dead_letters") == []


def test_a_retry_beside_a_parking_takes_place_after_it(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    parking, retrying = open_session(), open_session()
    parking.register("a, b")
    task = parking.submit()
    a = parking.steps(task)["a"]
    with parking.connection.transaction():
        assert park_by_hand(parking, a)["moved"] == [a]
        retried = beside.start_blocked(retrying, parking, lambda: retry(retrying, a))
    assert (retried.result()["moved"], published(retried.result())) == ([a], [a])
    assert parking.log_of(a)[-2:] == ["error", "enqueued"]
    assert parking.counters(task) == ("in_progress", 2, 2, 0)


def test_a_parking_beside_a_retry_takes_place_after_it(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    parking, retrying = open_session(), open_session()
    parking.register("a, b")
    task = parking.submit()
    a = parking.steps(task)["a"]
    parking.fail(a, permanent=True)
    with retrying.connection.transaction():
        assert retry(retrying, a)["moved"] == [a]
        parked = beside.start_blocked(parking, retrying, lambda: park_by_hand(parking, a))
    assert parked.result()["moved"] == [a]
    letters = parking.rows("select reason, closed_at is null as open from tasker.dead_letters order by id")
    assert letters == [{"reason": "permanent", "open": False}, {"reason": "parked", "open": True}]
    assert parking.counters(task) == ("in_progress", 2, 1, 1)


def test_a_parking_of_a_child_beside_the_finish_of_its_parent_loses_no_wake_up(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit()
    a, b = worker.steps(task).values()
    won = worker.claim(a)
    with worker.connection.transaction():
        worker.finish(won.complete())
        parking = beside.start_blocked(operator, worker, lambda: park_by_hand(operator, b))
    assert parking.result()["moved"] == [b]
    assert worker.step(b)["parents_left"] == 0
    assert published(retry(worker, b)) == [b]


def test_recovery_leaves_a_parked_step_alone(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    worker = protocol.register_worker()
    protocol.claim(a, worker=worker)
    stop(protocol, worker)
    recover(protocol)
    park_by_hand(protocol, a)
    assert recover(protocol)["moved"] == 0
    assert protocol.step(a)["state"] == "error"
