"""A new part of an application, which only newer workers have."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasker import StepContext, TaskTemplate

FOLDER = Path(os.environ.get("TASKER_TEST_FOLDER", "."))

news = TaskTemplate("late/news", version="1.0.0")
gate = TaskTemplate("late/gate", version="1.0.0")


@news.step
def first() -> str:
    return "first"


@news.step
def second(first: str) -> str:
    return f"{first}, second"


@gate.step
def before(step: StepContext) -> str:
    """Say that it runs, then wait at the gate."""
    (FOLDER / f"{step.task_id}-runs").touch()
    while not (FOLDER / f"{step.task_id}-open").exists():
        time.sleep(0.01)
    return "through"


@gate.step
def after(before: str) -> str:
    return before
