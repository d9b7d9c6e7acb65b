"""record_timeouts: attempts whose time is over fail like any other failure."""

from __future__ import annotations

from datetime import timedelta

from tests.sql.protocol import START, Protocol


def record(session: Protocol, *steps: int) -> int:
    query = "select count(*) as n from unnest(tasker.record_timeouts(%s, tasker.clock()))"
    return int(session.row(query, [list(steps)])["n"])


def test_the_attempt_fails_with_step_timeout_and_is_retried_by_its_policy(protocol: Protocol) -> None:
    protocol.register("a", timeout_seconds=2.5)
    a = protocol.steps(protocol.submit())["a"]
    protocol.claim(a)
    protocol.pass_time(7)
    assert record(protocol, a) == 1
    step, (attempt,) = protocol.step(a), protocol.attempts(a)
    assert (step["state"], step["failures"], step["losses"]) == ("waiting_for_retry", 1, 0)
    assert step["run_after"] == protocol.now + timedelta(seconds=1)
    assert (attempt["outcome"], attempt["started_at"]) == ("retry", START)
    assert attempt["error"]["type"] == "tasker.StepTimeout"
    assert attempt["error"]["message"].startswith("a ran longer than its 2.5 s")


def test_steps_that_do_not_run_are_left_alone(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.complete(b)
    assert record(protocol, a, b) == 0
    assert (protocol.step(a)["state"], protocol.step(b)["state"]) == ("enqueued", "complete")
