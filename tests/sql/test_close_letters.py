"""close_letters, through the functions that take steps out of error, whose letters are then closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.sql.actions import OPERATOR, REASON, cancel, resolve, retry, skip
from tests.sql.beside import Beside
from tests.sql.protocol import Protocol

Repair = Callable[[Protocol, int, UUID], Any]

REPAIRS: dict[str, Repair] = {
    "retry of the step": lambda session, step, _: retry(session, step),
    "retry of the task": lambda session, _, task: retry(session, tasks=[task]),
    "skip": lambda session, step, _: skip(session, step),
    "resolve": lambda session, step, _: resolve(session, step),
    "complete": lambda session, step, _: resolve(session, step, results={step: 1}),
    "cancel": lambda session, _, task: cancel(session, task),
}


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)
def test_whatever_takes_a_step_out_of_error_closes_its_letter(protocol: Protocol, repair: Repair) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, permanent=True)
    protocol.pass_time(60)
    repair(protocol, a, task)
    letter = protocol.row("select * from tasker.dead_letters")
    assert (letter["closed_at"], letter["closed_by"], letter["closed_because"]) == (
        protocol.now,
        OPERATOR,
        REASON,
    )
    protocol.pass_time(60)
    repair(protocol, a, task)
    assert protocol.row("select * from tasker.dead_letters") == letter


def test_a_repair_without_a_reason_says_what_it_was(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.finish(protocol.claim(a, b).fail(permanent=True))
    protocol.connection.execute("select tasker.retry_steps(array[%s], '{}', null, null, false)", [a])
    protocol.connection.execute("select tasker.skip_steps(array[%s], null, null, false)", [b])
    closed = protocol.rows("select closed_by, closed_because from tasker.dead_letters order by step_id")
    assert closed == [
        {"closed_by": None, "closed_because": "retry"},
        {"closed_by": None, "closed_because": "skipped"},
    ]


def test_letters_of_other_steps_stay_open(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.finish(protocol.claim(a, b).fail(permanent=True))
    retry(protocol, a)
    assert protocol.rows("select step_id from tasker.dead_letters where closed_at is null") == [
        {"step_id": b}
    ]


def test_each_failure_after_a_retry_has_a_letter_of_its_own(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    for _ in range(3):
        protocol.fail(a, permanent=True)
        retry(protocol, a)
    assert protocol.row("select count(*), count(closed_at) as closed from tasker.dead_letters") == {
        "count": 3,
        "closed": 3,
    }


def test_a_retry_that_waits_for_a_skip_leaves_the_letter_as_it_was_closed(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    skipping, retrying = open_session(), open_session()
    skipping.register("a, b")
    a = skipping.steps(skipping.submit())["a"]
    skipping.fail(a, permanent=True)
    with skipping.connection.transaction():
        skip(skipping, a)
        retried = beside.start_blocked(retrying, skipping, lambda: retry(retrying, a))
    assert retried.result()["moved"] == []
    assert skipping.row("select count(*), count(closed_at) as closed from tasker.dead_letters") == {
        "count": 1,
        "closed": 1,
    }
