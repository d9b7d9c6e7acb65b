"""Steps of one handler, all quick but for the one that the context names."""

from __future__ import annotations

import ctypes
import time
from typing import Any

from tasker import StepContext, TaskTemplate

STEPS = 64
SLOW = 8
"""The step that takes long, if any does: there are steps before it and behind it."""

batch = TaskTemplate("uneven/batch", version="1.0.0")
HANDLER = "uneven/work"


def work(context: dict[str, Any], step: StepContext) -> None:
    """Return at once, or sleep; while it holds the interpreter, no other thread of this process runs."""
    if step.name == f"step_{SLOW}":
        seconds = context["seconds"]
        if context["holds_the_interpreter"]:
            ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
        else:
            time.sleep(seconds)


for number in range(STEPS):
    batch.add_step(work, name=f"step_{number}", handler=HANDLER)
