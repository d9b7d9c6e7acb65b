"""From what a handler did to what is recorded."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.errors import PermanentError, Rejected, RetryableError, TemplateError, ValueRefused
from tasker.domain.outcomes import Outcome, failed
from tasker.domain.replies import ClaimedStep

CLAIM = UUID(int=7)


def claimed(**fields: Any) -> ClaimedStep:
    values: dict[str, Any] = {
        "claim": CLAIM,
        "id": 3,
        "task_id": "t",
        "name": "charge",
        "handler": "h",
        "attempt": 2,
        "failures": 1,
        "max_attempts": 3,
        "never_for": [],
        "timeout_ms": 1000,
        "config": None,
        "queue": "q",
        "parents": 0,
        "transactional": False,
        "results": None,
    }
    return ClaimedStep(**values | fields)


def test_a_result_is_reported_under_its_claim() -> None:
    outcome = Outcome(claimed(), begun=10.0, ended=10.5, result='{"a":1}')
    assert json.loads(outcome.to_json(now=11.0)) == {
        "step_id": 3,
        "attempt": 2,
        "claim_id": str(CLAIM),
        "started_ms_ago": 1000.0,
        "kind": "complete",
        "result": {"a": 1},
    }


@pytest.mark.parametrize(
    "error", [PermanentError("no"), ValueRefused("no"), TemplateError("no"), Rejected("no")]
)
def test_what_cannot_succeed_next_time_is_permanent(error: Exception) -> None:
    assert failed(claimed(), error, 0, 1, 1000).permanent


def test_a_class_that_the_policy_never_retries_is_permanent_with_its_subclasses() -> None:
    step = claimed(never_for=["ValueError"])
    assert failed(step, UnicodeError("no"), 0, 1, 1000).permanent
    assert not failed(step, KeyError("no"), 0, 1, 1000).permanent


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "soon", 10**10])
def test_retry_after_is_a_length_of_time(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"retry_after|could not convert"):
        RetryableError("busy", retry_after=wrong)


@pytest.mark.parametrize("delay", [1.5, timedelta(seconds=1.5), "1.5"])
def test_retry_after_is_reported_in_milliseconds(delay: Any) -> None:
    outcome = failed(claimed(), RetryableError("busy", retry_after=delay), 0, 1, 1000)
    report = json.loads(outcome.to_json(now=2))
    assert (report["kind"], report["permanent"], report["retry_after_ms"]) == ("failure", False, 1500)


def test_a_length_of_time_that_somebody_made_nonsense_of_is_the_policys() -> None:
    for nonsense in ("soon", float("nan"), -1, True, None, 10**12):
        error = RetryableError("busy", retry_after=1)
        error.retry_after = nonsense  # type: ignore[assignment]
        assert failed(claimed(), error, 0, 1, 1000).retry_after is None


class Evasive(type):
    """The class of an exception class that does not say its name."""

    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise RuntimeError("no")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Evasive):
    @property
    def __class__(self) -> type:
        raise RuntimeError("no")


def test_an_exception_of_a_class_that_raises_when_it_is_looked_at_is_an_outcome() -> None:
    outcome = failed(claimed(never_for=["ValueError"]), Nameless("x"), 0, 1, 1000)
    assert outcome.error is not None
    assert outcome.error["type"] == "<the name could not be read: RuntimeError>"
    assert not outcome.permanent
    assert json.loads(outcome.to_json(now=2))["error"] == outcome.error
