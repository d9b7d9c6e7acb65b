"""The examples, with trouble: the context names a step that fails, and how long. And steps that are quick."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import workers  # noqa: F401 - registers the examples
from tasker import RetryableError, StepContext, TaskTemplate, around_step

QUICK_STEPS = 16


@around_step
def fail(step: StepContext) -> Generator[None, None, None]:
    """`{"trouble": {"step": "mean", "failures": 2}}`, or `"until": "/a/file"` that must appear first."""
    trouble = step.context.get("trouble")
    if trouble and trouble["step"] == step.name:
        until = trouble.get("until")
        if step.attempt <= trouble.get("failures", 0) or (until and not Path(until).exists()):
            raise RetryableError("trouble", retry_after=0.01)
    yield


def nothing() -> None:
    """Return at once."""


quick = TaskTemplate("troubled/quick", version="1.0.0")
for number in range(QUICK_STEPS):
    quick.add_step(nothing, name=f"step_{number}", handler="troubled/nothing")
