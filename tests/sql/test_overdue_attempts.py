"""overdue_attempts: who runs far longer than the step may, under workers that look alive."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.sql.actions import stop
from tests.sql.protocol import Protocol

GRACE = timedelta(seconds=3)


def overdue(session: Protocol) -> dict[int, int]:
    rows = session.rows("select step_id, attempt from tasker.overdue_attempts(%s)", [GRACE])
    return {row["step_id"]: row["attempt"] for row in rows}


def test_an_attempt_is_overdue_once_its_time_and_the_grace_are_over(protocol: Protocol) -> None:
    protocol.register("a, b, c", timeout_seconds=10, steps={"b": {"timeout_seconds": 60}})
    a, b, _ = protocol.steps(protocol.submit()).values()
    protocol.claim(a, b)
    protocol.pass_time(13)
    assert overdue(protocol) == {}
    protocol.pass_time(0.001)
    assert overdue(protocol) == {a: 1}
    protocol.pass_time(50)
    assert overdue(protocol) == {a: 1, b: 1}


def test_an_attempt_that_has_ended_is_not_overdue(protocol: Protocol) -> None:
    protocol.register("a", timeout_seconds=10)
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    protocol.pass_time(60)
    protocol.finish(won.complete())
    assert overdue(protocol) == {}


@pytest.mark.parametrize("who", ["child", "main"])
def test_the_steps_of_a_stopped_worker_are_for_recovery(protocol: Protocol, who: str) -> None:
    protocol.register("a", timeout_seconds=10)
    main = protocol.register_worker()
    child = protocol.register_worker(parent=main, kind="child")
    protocol.claim(protocol.steps(protocol.submit())["a"], worker=child)
    protocol.pass_time(60)
    assert len(overdue(protocol)) == 1
    stop(protocol, {"child": child, "main": main}[who])
    assert overdue(protocol) == {}
