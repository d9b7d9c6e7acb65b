"""Steps that are quick, but many."""

from __future__ import annotations

import time

from tasker import TaskTemplate

WORK_SECONDS = 0.001
STEPS = 1_000

LONG_WORK_SECONDS = 0.01
FEW_STEPS = 110
"""Two tasks of so many are a little more than one call publishes for two children."""

one = TaskTemplate("backlog/one", version="1.0.0")
many = TaskTemplate("backlog/many", version="1.0.0")
HANDLER = "backlog/work"


def work() -> None:
    """Take a moment."""
    time.sleep(WORK_SECONDS)


one.add_step(work, handler=HANDLER)
for number in range(STEPS):
    many.add_step(work, name=f"step_{number}", handler=HANDLER)

long = TaskTemplate("backlog/long", version="1.0.0")
few = TaskTemplate("backlog/few", version="1.0.0")
LONG_HANDLER = "backlog/long_work"


def long_work() -> None:
    """Take ten moments."""
    time.sleep(LONG_WORK_SECONDS)


long.add_step(long_work, handler=LONG_HANDLER)
for number in range(FEW_STEPS):
    few.add_step(long_work, name=f"step_{number}", handler=LONG_HANDLER)
