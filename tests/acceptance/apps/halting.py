"""Steps that wait at one gate for all, several of them in one message; for workers that are told to stop."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasker import StepContext, TaskTemplate
from tests.acceptance.apps.ledger import work

FOLDER = Path(os.environ["TASKER_TEST_FOLDER"])

pair = TaskTemplate("halting/pair", version="1.0.0")


@pair.step(max_attempts=1)
def gate(step: StepContext) -> str:
    """Say that it runs, then wait at the gate."""
    (FOLDER / "runs").touch()
    while not (FOLDER / "open").exists():
        time.sleep(0.01)
    return work(step)


@pair.step(max_attempts=1)
def after(gate: str, step: StepContext) -> str:
    return work(step)
