"""From what a handler did to what is recorded."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.errors import PermanentError, RetryableError, TemplateError, ValueRefused
from tasker.domain.outcomes import Outcome, describe, failed
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


@pytest.mark.parametrize("error", [PermanentError("no"), ValueRefused("no"), TemplateError("no")])
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


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this")


def raised(error: Exception) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [Broken(), ValueError("x" * 10_000_000), ValueError("nul \0, lone \ud800"), KeyError("ü" * 50_000)],
)
def test_any_exception_becomes_storable_text_within_the_limit(error: Exception) -> None:
    described = describe(raised(error), limit_bytes=16_384)
    text = json.dumps(described)
    assert len(text) <= 16_384
    assert "\\u0000" not in text
    assert "\\ud800" not in text
    assert described["type"].endswith(type(error).__name__)


def test_the_traceback_names_where_it_happened() -> None:
    assert "in raised" in describe(raised(ValueError("no")), limit_bytes=16_384)["traceback"]
