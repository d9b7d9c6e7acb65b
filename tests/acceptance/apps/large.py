"""Fans as wide as TASKER_TEST_WAYS says, out of one step and back into one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tasker import TaskTemplate

WAYS = int(os.environ.get("TASKER_TEST_WAYS", "100"))

fan = TaskTemplate("large/fan", version=f"1.{WAYS}.0")


def work() -> int:
    """Return at once."""
    return 1


def gather(results: Mapping[str, int]) -> int:
    """Count what all the others returned."""
    return sum(results.values())


fan.add_step(work, name="first", handler="large/work")
branches = [f"branch_{number}" for number in range(WAYS)]
for name in branches:
    fan.add_step(work, name=name, handler="large/work", depends_on=["first"])
fan.add_step(gather, name="last", depends_on=branches)
