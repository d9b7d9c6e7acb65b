"""What workers report of how long handlers take."""

from __future__ import annotations

from uuid import UUID

import pytest

from tasker.domain.outcomes import Outcome
from tasker.domain.replies import ClaimedStep
from tasker.worker.watchdog import Expectations

STEP = ClaimedStep(
    UUID(int=0),
    1,
    "task",
    "step",
    "work",
    1,
    0,
    3,
    [],
    1000,
    None,
    "celery",
    0,
    transactional=False,
    results={},
)
FAILED = {"type": "ValueError", "message": "on purpose"}


def took(milliseconds: float, error: dict[str, str] | None = None) -> Outcome:
    return Outcome(STEP, 10.0, 10.0 + milliseconds / 1000, error=error)


@pytest.mark.parametrize(
    ("outcomes", "mean"),
    [
        ([took(2), took(4)], 3),
        ([took(2), took(4), took(0.1, FAILED)], 3),
        ([took(2), took(30_000, FAILED)], 15_001),
    ],
)
def test_a_failure_counts_when_it_took_long_and_not_when_it_came_at_once(
    outcomes: list[Outcome], mean: float
) -> None:
    expectations = Expectations()
    expectations.add(outcomes)
    assert expectations.due(now=100.0) == {"work": pytest.approx(mean)}
