"""Steps that are quick, but many."""

from __future__ import annotations

import time

from tasker import TaskTemplate

WORK_SECONDS = 0.001
STEPS = 1_000

one = TaskTemplate("backlog/one", version="1.0.0")
many = TaskTemplate("backlog/many", version="1.0.0")
HANDLER = "backlog/work"


def work() -> None:
    """Take a moment."""
    time.sleep(WORK_SECONDS)


one.add_step(work, handler=HANDLER)
for number in range(STEPS):
    many.add_step(work, name=f"step_{number}", handler=HANDLER)
