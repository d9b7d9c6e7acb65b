"""The load of a soak: graphs whose contexts say which step gets into trouble; some hang, some write."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg

from tasker import Retry, RetryableError, StepContext, TaskTemplate, around_step

LEDGER = Path(os.environ["TASKER_TEST_FOLDER"], "ledger")
RETRY = Retry(max_attempts=3, backoff="none")
LIMIT_SECONDS = 1.0


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


def hang(step: StepContext) -> str:
    """The first time, until the limit ends it."""
    if step.attempt == 1:
        time.sleep(600)
    return step.name


def write(step: StepContext, connection: psycopg.Connection[Any]) -> str:
    """A row in the transaction that completes this step."""
    connection.execute("insert into public.written (step) values (%s)", [step.idempotency_key])
    return work(step)


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

hanging = TaskTemplate("load/hanging", version="1.0.0")
hanging.add_step(work, name="a", retry=RETRY)
hanging.add_step(hang, name="b", depends_on=["a"], retry=RETRY, timeout_seconds=LIMIT_SECONDS)
hanging.add_step(work, name="c", depends_on=["b"], retry=RETRY)

writing = TaskTemplate("load/writing", version="1.0.0")
for name, parents in {"a": [], "b": ["a"], "c": ["a"]}.items():
    writing.add_step(write, name=name, depends_on=parents, retry=RETRY, transactional=True)
