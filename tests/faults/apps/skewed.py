"""The ledger application on a machine whose clock is wrong: hours ahead or behind, or jumping to and fro."""

from __future__ import annotations

import os
import time
from itertools import count

from tests.acceptance.apps import ledger  # noqa: F401 - registers its template

_true_time = time.time
_calls = count()
_hours = os.environ["TASKER_TEST_SKEW"]


def skewed() -> float:
    """What time.time says here."""
    hours = float(_hours) if _hours != "jumping" else (next(_calls) % 3 - 1) * 2
    return _true_time() + hours * 3600


time.time = skewed
time.time_ns = lambda: int(skewed() * 1e9)
