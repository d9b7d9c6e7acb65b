"""Steps that take a while and write each of their effects into a ledger, a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasker import StepContext, TaskTemplate

LEDGER = Path(os.environ["TASKER_TEST_FOLDER"], "ledger")
WORK_SECONDS = 0.02

fan = TaskTemplate("ledger/fan", version="1.0.0")
BRANCHES = [f"branch_{number}" for number in range(6)]


def work(step: StepContext) -> str:
    """Take a while, then write one whole line."""
    time.sleep(WORK_SECONDS)
    with LEDGER.open("ab", buffering=0) as ledger:
        ledger.write(f"{step.idempotency_key}\n".encode())
    return step.name


fan.add_step(work, name="root")
for branch in BRANCHES:
    fan.add_step(work, name=branch, depends_on=["root"])
fan.add_step(work, name="join", depends_on=BRANCHES)
