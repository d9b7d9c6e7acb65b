"""An application that has had Celery all along: its own app, whose tasks are handlers, and hooks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Generator
from contextvars import ContextVar
from pathlib import Path

from celery import Celery, shared_task
from pydantic import BaseModel

from tasker import StepContext, Tasker, TaskTemplate, around_step, on

LOG = Path(os.environ["TASKER_TEST_FOLDER"], "log")

app = Celery("assorted", broker=os.environ["TASKER_BROKER_URL"])
app.conf.task_default_queue = "assorted"
tasks = Tasker(celery=app)

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
template = TaskTemplate("assorted/all", version="1.0.0")


class Awaited(BaseModel):
    """What an async step says, and where it ran: process and thread, and the event loop."""

    said: str
    place: tuple[str, int]


def here() -> tuple[str, int]:
    return f"{os.getpid()} {threading.get_ident()}", id(asyncio.get_running_loop())


def note(line: str) -> None:
    with LOG.open("ab", buffering=0) as log:
        log.write(f"{line}\n".encode())


@around_step
def as_tenant(step: StepContext) -> Generator[None, None, None]:
    """What Sentry, Django or a tenant need: something before each step and something after it."""
    token = tenant.set(step.context["tenant"])
    yield
    tenant.reset(token)
    note(f"after {step.name}")


@on("step.completed")
def broken(event: object) -> None:
    raise RuntimeError("a receiver of the application is broken")


@on("step.completed")
@on("task.completed")
def tell(event: object) -> None:
    note(f"{getattr(event, 'name', '')} {getattr(event, 'step', '')}")


@app.task  # type: ignore[untyped-decorator]
def unrelated(number: int) -> None:
    """A Celery task as there are many in an application: Tasker leaves it alone."""
    note(f"unrelated {number}")


@template.step
@app.task  # type: ignore[untyped-decorator]
def of_the_app(step: StepContext) -> str:
    return f"{tenant.get()} {step.name}"


@template.step
@shared_task  # type: ignore[untyped-decorator]
def shared(of_the_app: str) -> str:
    return f"{of_the_app}, shared"


@template.step
async def awaited(shared: str) -> Awaited:
    await asyncio.sleep(0.001)
    return Awaited(said=f"{shared}, awaited by {tenant.get()}", place=here())


@template.step
async def gathered(awaited: Awaited) -> Awaited:
    parts = await asyncio.gather(*(asyncio.to_thread(str.upper, part) for part in awaited.said.split(", ")))
    return Awaited(said=", ".join(parts), place=here())
