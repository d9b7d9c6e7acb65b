"""A template of ten times as many steps as a template may have."""

from __future__ import annotations

from tasker import TaskTemplate


def nothing() -> None: ...


huge = TaskTemplate("huge/one", version="1.0.0")
for number in range(100_000):
    huge.add_step(nothing, name=f"step-{number}")
