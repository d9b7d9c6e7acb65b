"""bury_steps, through the functions that end steps: a dead letter for each that becomes error."""

from __future__ import annotations

from hashlib import sha256

import pytest
from psycopg.types.json import Jsonb

from tasker.domain.retry import Retry
from tests.sql.actions import park, park_by_hand, recover, retry, stop
from tests.sql.protocol import START, Protocol, Row


def letters(session: Protocol, step: int) -> list[Row]:
    """The dead letters of a step, first to last."""
    return session.rows("select * from tasker.dead_letters where step_id = %s order by id", [step])


def only_letter(session: Protocol, step: int) -> Row:
    """The one dead letter of a step."""
    (letter,) = letters(session, step)
    return letter


def test_a_failure_for_good_writes_a_letter_with_all_an_operator_needs(protocol: Protocol) -> None:
    protocol.register("a, b > c", queue="reports", handler="work")
    task = protocol.submit(context={"order": 42})
    a, b, c = protocol.steps(task).values()
    worker = protocol.register_worker(queues=["reports"])
    protocol.finish(protocol.claim(a, b, worker=worker).complete())
    protocol.pass_time(5)
    won = protocol.claim(c, worker=worker)
    error = {
        "type": "shop.CardRefused",
        "message": "card 42 refused",
        "traceback": "…",
        "frame": "shop.charge",
    }
    protocol.finish([won.only.fail(permanent=True, **error)])
    letter = only_letter(protocol, c)
    assert (letter["task_id"], letter["reason"], letter["error"]) == (task, "permanent", error)
    assert (letter["created_at"], letter["closed_at"]) == (protocol.now, None)
    assert letter["snapshot"] == {
        "template": "tests/graph",
        "version": "1.0.0",
        "step": "c",
        "handler": "work",
        "queue": "reports",
        "attempt": 1,
        "failures": 1,
        "losses": 0,
        "context_bytes": 13,
        "context_sha256": sha256(b'{"order": 42}').hexdigest(),
        "parents": {"a": "complete", "b": "complete"},
    }
    assert letter["fingerprint"] == protocol.call("error_fingerprint", Jsonb(error))


def test_the_last_attempts_failure_exhausts_the_step(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    for number in range(3):
        assert letters(protocol, a) == []
        protocol.fail(a, message=f"failure {number}")
        protocol.pass_time(10)
        protocol.due()
    letter = only_letter(protocol, a)
    assert (letter["reason"], letter["error"]["message"]) == ("exhausted", "failure 2")


def test_one_batch_may_end_steps_for_both_reasons_and_others_not_at_all(protocol: Protocol) -> None:
    protocol.register("a, b, c, d", steps={"a": {"retry": Retry(max_attempts=1)}})
    task = protocol.submit()
    won = protocol.claim(*protocol.steps(task).values())
    a, b, c, d = won.attempts.values()
    protocol.finish([a.fail(), b.fail(permanent=True), c.fail(), d.complete()])
    found = protocol.rows("select step_id, reason from tasker.dead_letters order by step_id")
    assert found == [
        {"step_id": a.step_id, "reason": "exhausted"},
        {"step_id": b.step_id, "reason": "permanent"},
    ]


def test_a_step_that_killed_too_many_workers(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    for _ in ("in company", "alone"):
        worker = protocol.register_worker()
        protocol.claim(a, worker=worker)
        stop(protocol, worker)
        recover(protocol, max_losses=1)
    letter = only_letter(protocol, a)
    assert (letter["reason"], letter["snapshot"]["losses"]) == ("worker_lost", 1)
    assert letter["error"] == {"type": "worker_lost", "message": "the workers that ran it died"}


def test_a_step_that_nobody_claims(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.connection.execute("update tasker.steps set republished = 5")
    park(protocol, a)
    letter = only_letter(protocol, a)
    assert (letter["reason"], letter["snapshot"]["attempt"]) == ("unclaimable", 0)
    assert letter["error"] == {"type": "unclaimable", "message": "no worker claimed it"}


def test_the_error_is_not_that_of_an_earlier_life(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.fail(a, permanent=True)
    retry(protocol, a)
    park_by_hand(protocol, a)
    assert [letter["error"]["type"] for letter in letters(protocol, a)] == ["ValueError", "parked"]


def test_a_repeated_report_writes_no_second_letter(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    outcomes = won.fail(permanent=True)
    protocol.finish(outcomes, claim_id=won.claim_id)
    protocol.pass_time(1)
    protocol.finish(outcomes, claim_id=won.claim_id)
    assert only_letter(protocol, a)["created_at"] == START


def test_a_step_with_an_open_letter_keeps_it(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.fail(a, permanent=True)
    protocol.call("bury_steps", [a], "parked", "again", protocol.now)
    assert only_letter(protocol, a)["reason"] == "permanent"


def test_no_word_but_a_reason_is_taken(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    with protocol.refused("23514"):
        protocol.call("bury_steps", [a], "tired", None, protocol.now)


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_the_context_is_not_copied(protocol: Protocol, size: int) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit(context={"card": "4" * size}))["a"]
    protocol.fail(a, permanent=True)
    letter = only_letter(protocol, a)
    assert letter["snapshot"]["context_bytes"] == size + 12
    assert "4444" not in str(letter["snapshot"])


def test_of_a_join_only_the_first_hundred_parents_are_kept(protocol: Protocol) -> None:
    names = [f"p{number:03}" for number in range(120)]
    protocol.register(f"{', '.join(names)} > join")
    protocol.expect(work=1)
    task = protocol.submit()
    join = protocol.steps(task)["join"]
    park_by_hand(protocol, join)
    assert only_letter(protocol, join)["snapshot"]["parents"] == dict.fromkeys(names[:100], "enqueued")
