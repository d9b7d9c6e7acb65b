"""record_failures, through finish_steps: when a failed step runs again, and when it does not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasker.domain.retry import Retry
from tests.sql.protocol import START, Protocol, published


def test_a_failed_step_waits_for_its_next_attempt(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    protocol.pass_time(5)
    protocol.finish([won.only.fail(type="KeyError", message="'x'")])
    step = protocol.step(a)
    assert (step["state"], step["attempt"], step["failures"]) == ("waiting_for_retry", 1, 1)
    assert step["run_after"] == START + timedelta(seconds=6)
    (attempt,) = protocol.attempts(a)
    assert (attempt["outcome"], attempt["result"]) == ("retry", None)
    assert attempt["error"] == {"type": "KeyError", "message": "'x'"}
    assert attempt["finished_at"] == START + timedelta(seconds=5)
    logged = protocol.row(
        "select to_state, attempt, reason from tasker.transitions order by seq desc limit 1"
    )
    assert logged == {"to_state": "waiting_for_retry", "attempt": 1, "reason": "KeyError"}
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)


def test_its_next_attempt_knows_of_the_failures_before(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.fail(a)
    protocol.pass_time(1)
    assert published(protocol.due()) == [a]
    row = protocol.claim(a).only.row
    assert (row["attempt"], row["failures"], row["max_attempts"]) == (2, 1, 3)


@pytest.mark.parametrize("backoff", ["none", "constant", "linear", "exponential", "fibonacci"])
def test_the_delays_between_attempts_are_those_of_the_policy(protocol: Protocol, backoff: str) -> None:
    policy = Retry(max_attempts=6, backoff=backoff, base_seconds=2, max_seconds=12, jitter="none")
    protocol.register("a", retry=policy)
    a = protocol.steps(protocol.submit())["a"]
    delays = []
    for _ in range(5):
        protocol.fail(a)
        delays.append((protocol.step(a)["run_after"] - protocol.now).total_seconds())
        protocol.pass_time(delays[-1])
        protocol.due()
    assert delays == [policy.delay_seconds(failures) for failures in range(1, 6)]


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_the_last_attempts_failure_is_final(protocol: Protocol, max_attempts: int) -> None:
    protocol.register("a", retry=Retry(max_attempts=max_attempts, backoff="none"))
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    for _ in range(max_attempts - 1):
        protocol.fail(a)
        assert published(protocol.due()) == [a]
    protocol.fail(a)
    assert protocol.counters(task) == ("error", 1, 0, 1)
    assert protocol.step(a)["run_after"] is None
    assert [attempt["outcome"] for attempt in protocol.attempts(a)] == ["retry"] * (max_attempts - 1) + [
        "error"
    ]


def test_releases_and_losses_are_no_failures(protocol: Protocol) -> None:
    protocol.register("a", retry=Retry(max_attempts=2, backoff="none"))
    a = protocol.steps(protocol.submit())["a"]
    for _ in range(3):
        protocol.release(protocol.claim(a))
    protocol.fail(a)
    assert protocol.step(a)["state"] == "waiting_for_retry"
    assert (protocol.step(a)["attempt"], protocol.step(a)["failures"]) == (4, 1)


def test_a_permanent_failure_ends_the_step_at_once(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    protocol.fail(a, permanent=True, type="PermanentError")
    assert protocol.states(task) == {"a": "error", "b": "pending"}
    assert protocol.counters(task) == ("error", 2, 0, 1)
    assert protocol.attempts(a)[0]["outcome"] == "error"


@pytest.mark.parametrize("milliseconds", [0, 100, 3_600_000])
def test_retry_after_replaces_the_policys_delay(protocol: Protocol, milliseconds: int) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.fail(a, retry_after_ms=milliseconds)
    assert protocol.step(a)["run_after"] == START + timedelta(milliseconds=milliseconds)


def test_retry_after_does_not_add_an_attempt(protocol: Protocol) -> None:
    protocol.register("a", retry=Retry(max_attempts=1))
    a = protocol.steps(protocol.submit())["a"]
    protocol.fail(a, retry_after_ms=100)
    assert protocol.step(a)["state"] == "error"


def test_each_step_of_a_batch_fails_by_its_own_policy(protocol: Protocol) -> None:
    protocol.register(
        "a, b, c",
        steps={
            "a": {"retry": Retry(backoff="constant", base_seconds=7, jitter="none")},
            "b": {"retry": Retry(max_attempts=1)},
            "c": {"retry": Retry(backoff="none", jitter="full")},
        },
    )
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    protocol.fail(a, b, c)
    assert [protocol.step(step)["state"] for step in (a, b, c)] == [
        "waiting_for_retry",
        "error",
        "waiting_for_retry",
    ]
    assert protocol.step(a)["run_after"] == START + timedelta(seconds=7)
    assert protocol.step(c)["run_after"] == START
    assert protocol.counters(task) == ("in_progress", 3, 2, 1)
