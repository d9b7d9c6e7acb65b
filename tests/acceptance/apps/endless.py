"""Steps that do not end by themselves, each in its own way, and one that shows that the worker goes on."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import psycopg

from tasker import StepCancelled, StepContext, StepTimeout, TaskTemplate

LIMIT_SECONDS = 0.3
LONG_SECONDS = 600


def template(name: str) -> TaskTemplate:
    return TaskTemplate(f"endless/{name}", version="1.0.0")


def path(step: StepContext, word: str) -> Path:
    """A file `TASK_ID-WORD`, by which a step and the test tell each other."""
    return Path(os.environ["TASKER_TEST_FOLDER"], f"{step.task_id}-{word}")


def note(step: StepContext, word: str) -> None:
    path(step, word).touch()


sleeps = template("sleeps")
swallows = template("swallows")
holds = template("holds")
catches = template("catches")
awaits = template("awaits")
blocks = template("blocks")
queries = template("queries")
alive = template("alive")
returns_late = template("returns_late")
loops_in_python = template("loops_in_python")
outage = template("outage")
watches = template("watches")
ignores = template("ignores")


@sleeps.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
def asleep() -> None:
    """In a system call."""
    time.sleep(LONG_SECONDS)


@swallows.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
def deaf(step: StepContext) -> None:
    """Takes no notice of what it is told."""
    while True:
        try:
            time.sleep(0.01)
        except StepTimeout:
            note(step, "told")


@holds.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
def captive() -> None:
    """In C, and no other thread of the process runs meanwhile."""
    re.match(r"(a+)+$", "a" * 64 + "b")


@catches.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
def caught() -> str:
    try:
        time.sleep(LONG_SECONDS)
    except StepTimeout as told:
        return f"in time after all: {told}"
    return "slept"


@awaits.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
async def awaiting() -> None:
    await asyncio.sleep(LONG_SECONDS)


@blocks.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
async def blocking() -> None:
    """Keeps the event loop from seeing anything."""
    time.sleep(LONG_SECONDS)  # noqa: ASYNC251


@queries.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1, transactional=True)
def querying(connection: psycopg.Connection[Any]) -> None:
    """In a statement of its transaction."""
    connection.execute("select pg_sleep(%s)", [LONG_SECONDS])


@alive.step
async def loops() -> bool:
    """Whether nothing that was cancelled is left on the loop of this process."""
    await asyncio.sleep(0)
    return len(asyncio.all_tasks()) == 1


@returns_late.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
def stubborn(step: StepContext) -> str:
    """Ends when the test opens the way, and not before."""
    while not path(step, "open").exists():
        try:
            time.sleep(0.01)
        except StepTimeout:
            note(step, "told")
    return "late"


@loops_in_python.step(timeout_seconds=LIMIT_SECONDS, max_attempts=1)
def spin() -> None:
    while True:
        time.sleep(0.001)


@outage.step(timeout_seconds=1.5)
def cleaning(step: StepContext) -> str:
    """Is told in time whatever else is out of order, and returns."""
    note(step, "runs")
    try:
        time.sleep(LONG_SECONDS)
    except StepTimeout:
        note(step, "told")
    return "cleaned up"


@outage.step(timeout_seconds=1.5, max_attempts=1)
def clinging(step: StepContext) -> None:
    """Does not end."""
    note(step, "runs too")
    while True:
        try:
            time.sleep(0.01)
        except StepTimeout:
            note(step, "told too")


@watches.step
def attentive(step: StepContext) -> None:
    note(step, "runs")
    while not step.cancelled:
        time.sleep(0.01)
    path(step, "cancelled").write_text(f"{step.deadline}")


@ignores.step
def heedless(step: StepContext) -> None:
    note(step, "runs")
    try:
        time.sleep(LONG_SECONDS)
    except StepCancelled:
        note(step, "told")
        time.sleep(LONG_SECONDS)
