"""Graphs at their limits: two releases of one template, and a step with thousands of children."""

from __future__ import annotations

import os

from tasker import StepContext, TaskTemplate

WIDTH = 9_998
"""As many as the limit of 10 000 steps leaves beside a root and a join."""


def nothing() -> None: ...


def say(step: StepContext) -> str:
    return step.name


wide = TaskTemplate("wide/fan", version="1.0.0")
wide.add_step(nothing, name="root")
for number in range(WIDTH):
    wide.add_step(nothing, name=f"branch-{number}", handler="wide/nothing", depends_on=["root"])
wide.add_step(nothing, name="join", depends_on=[f"branch-{number}" for number in range(WIDTH)])

warm = TaskTemplate("wide/warm", version="1.0.0")
warm.add_step(nothing, name="only", handler="wide/nothing")

release = os.environ.get("TASKER_TEST_RELEASE", "1.0.0")
edited = TaskTemplate("wide/edited", version=release)
edited.add_step(say, name="first")
edited.add_step(say, name="second" if release == "1.0.0" else "another", depends_on=["first"])
