"""The load of a soak: a chain, a diamond and a tree, whose contexts say which step gets into trouble."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

from tasker import Retry, RetryableError, StepContext, TaskTemplate, around_step

LEDGER = Path(os.environ["TASKER_TEST_FOLDER"], "ledger")
RETRY = Retry(max_attempts=3, backoff="none")


@around_step
def noted(step: StepContext) -> Generator[None, None, None]:
    """One line in the ledger for each beginning, before anything can go wrong."""
    with LEDGER.open("ab", buffering=0) as ledger:
        ledger.write(f"{step.idempotency_key}\n".encode())
    yield


def work(step: StepContext) -> str:
    """Take as long as the context says; the troubled step fails as often as it says."""
    time.sleep(step.context["seconds"])
    if step.context["troubled"] == step.name and step.attempt <= step.context["failures"]:
        raise RetryableError("on purpose", retry_after=0.2)
    return step.name


def template(name: str, parents: dict[str, list[str]]) -> TaskTemplate:
    """A template of these steps, each with its parents."""
    made = TaskTemplate(f"load/{name}", version="1.0.0")
    for step, depends_on in parents.items():
        made.add_step(work, name=step, depends_on=depends_on, retry=RETRY)
    return made


linear = template("linear", {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
diamond = template("diamond", {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
tree = template(
    "tree", {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": ["b"], "f": ["c"], "g": ["d", "e", "f"]}
)
