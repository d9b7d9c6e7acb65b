"""The retry policy: its delays, what it refuses, and what it never retries."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.errors import PermanentError, TemplateError
from tasker.domain.retry import BACKOFFS, JITTERS, MAX_ATTEMPTS, Retry, is_named

policies = st.builds(
    Retry,
    max_attempts=st.integers(1, MAX_ATTEMPTS),
    backoff=st.sampled_from(BACKOFFS),
    base_seconds=st.integers(0, 60_000).map(lambda ms: ms / 1000),
    max_seconds=st.integers(60_000, 86_400_000).map(lambda ms: ms / 1000),
    jitter=st.sampled_from(JITTERS),
    never_for=st.lists(st.sampled_from([ValueError, OSError, PermanentError, "shop.Broken"])).map(tuple),
)


class Declined(ValueError):
    """A class of this module, to be named by it."""


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ("none", [0, 0, 0, 0, 0, 0]),
        ("constant", [2, 2, 2, 2, 2, 2]),
        ("linear", [2, 4, 6, 8, 10, 12]),
        ("exponential", [2, 4, 8, 16, 32, 60]),
        ("fibonacci", [2, 2, 4, 6, 10, 16]),
    ],
)
def test_the_delay_after_each_failure_follows_the_backoff(backoff: str, delays: list[float]) -> None:
    retry = Retry(backoff=backoff, base_seconds=2, max_seconds=60, jitter="none")
    assert [retry.delay_seconds(failures) for failures in range(1, 7)] == delays


@given(policies, st.integers(1, 10**9), st.floats(0, 1))
def test_a_delay_lies_between_nothing_and_the_maximum(retry: Retry, failures: int, fraction: float) -> None:
    delay = retry.delay_seconds(failures, fraction)
    assert 0 <= delay <= retry.max_seconds


def test_full_jitter_takes_any_part_and_equal_jitter_at_least_half() -> None:
    full = Retry(backoff="constant", base_seconds=8, jitter="full")
    equal = Retry(backoff="constant", base_seconds=8, jitter="equal")
    assert [full.delay_seconds(1, fraction) for fraction in (0, 0.5, 1)] == [0, 4, 8]
    assert [equal.delay_seconds(1, fraction) for fraction in (0, 0.5, 1)] == [4, 6, 8]


def test_failures_count_from_one() -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        Retry().delay_seconds(0)


@given(policies)
def test_a_policy_survives_its_stored_form(retry: Retry) -> None:
    assert Retry.from_json(json.loads(json.dumps(retry.to_json()))) == retry
    assert pickle.loads(pickle.dumps(retry)) == retry  # noqa: S301 - its own pickle


def test_the_stored_form_is_what_sql_reads() -> None:
    assert Retry(max_attempts=5, base_seconds=0.25, never_for=(ValueError, Declined)).to_json() == {
        "max_attempts": 5,
        "backoff": "exponential",
        "base_ms": 250,
        "max_ms": 300_000,
        "jitter": "full",
        "never_for": ["ValueError", f"{__name__}.Declined"],
    }


def stored_never_for(policy: Retry) -> list[str]:
    """As a worker gets it with the step."""
    return list(policy.to_json()["never_for"])


def test_never_for_matches_a_class_and_its_subclasses_by_class_or_by_name() -> None:
    by_class = stored_never_for(Retry(never_for=(ValueError,)))
    by_name = stored_never_for(Retry(never_for=[f"{__name__}.Declined"]))  # type: ignore[arg-type] # as YAML gives it
    assert is_named(Declined(), by_class)
    assert is_named(UnicodeDecodeError("utf-8", b"", 0, 1, ""), by_class)
    assert not is_named(TypeError(), by_class)
    assert is_named(Declined(), by_name)
    assert not is_named(ValueError(), by_name)
    assert not is_named(ValueError(), stored_never_for(Retry()))
    assert is_named(Declined(), ["LookupError", "ValueError"])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"max_attempts": 0},
            "retry max_attempts: must be a whole number from 1 (no retry) to 100000, not 0",
        ),
        ({"max_attempts": True}, "retry max_attempts: must be a whole number"),
        ({"max_attempts": 2.0}, "retry max_attempts: must be a whole number"),
        ({"backoff": "exponentail"}, 'did you mean "exponential"?'),
        ({"jitter": "half"}, "retry jitter: 'half' is none of none, full, equal"),
        ({"base_seconds": -1}, "retry base_seconds: must be a number of seconds from 0"),
        ({"base_seconds": float("nan")}, "retry base_seconds: must be a number of seconds"),
        ({"max_seconds": "60"}, "retry max_seconds: must be a number of seconds"),
        ({"max_seconds": 10**9}, "retry max_seconds: must be a number of seconds"),
        ({"base_seconds": 600}, "300 is below base_seconds 600; raise it or lower base_seconds"),
        ({"never_for": ValueError}, "retry never_for: must be a list of exception classes"),
        ({"never_for": (3,)}, "retry never_for: 3 is not an exception class"),
        ({"never_for": (dict,)}, "retry never_for: <class 'dict'> is not an exception class"),
        ({"never_for": ("ValueEror",)}, 'did you mean "ValueError"?'),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_right(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Retry(**keywords)  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_every_wrong_value_is_reported_at_once() -> None:
    with pytest.raises(TemplateError) as refused:
        Retry(max_attempts=0, backoff="fast", jitter="some", base_seconds=-1)
    assert len(refused.value.problems) == 4
