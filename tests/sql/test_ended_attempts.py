from __future__ import annotations

from tasker.db.functions import ended_attempts
from tests.sql.protocol import Protocol


def test_the_attempts_that_have_ended_are_told_and_those_that_run_are_not(protocol: Protocol) -> None:
    protocol.register("a, b")
    steps = protocol.steps(protocol.submit())
    protocol.fail(steps["a"])
    protocol.pass_time(1)
    protocol.due()
    protocol.claim(steps["a"], steps["b"])
    asked = [(steps["a"], 1), (steps["a"], 2), (steps["b"], 1), (steps["b"], 7), (0, 1)]
    assert ended_attempts(protocol.connection, asked) == [(steps["a"], 1)]
    assert ended_attempts(protocol.connection, []) == []
