"""An engine on real servers for tests of what runs above the SQL, and a worker that tests play by hand."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tasker import broker
from tasker.db import functions
from tasker.db.engine import Database
from tasker.domain.outcomes import Outcome
from tasker.domain.replies import ClaimedStep, Claims
from tasker.domain.retry import Retry
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration.engine import Engine
from tasker.orchestration.templates import store
from tasker.settings import Settings
from tests.faults.proxy import Proxy, postgres_proxy

QUEUE = "shop"
HANDLER = "work"


@contextmanager
def engine_on(database_url: str, redis_url: str, **settings: Any) -> Iterator[Engine]:
    """An engine with its own connections; what it publishes goes to real Redis."""
    given = Settings(database_url=database_url, broker_url=redis_url, **settings)
    database = Database(database_url, statement_timeout_seconds=given.statement_timeout_seconds)
    engine = Engine(database, broker.Publisher(broker.celery_app(given), given), given)
    yield engine
    engine.publisher.flush(10)
    database.close()


@contextmanager
def wired(database_url: str, redis_url: str, **settings: Any) -> Iterator[tuple[Proxy, Engine]]:
    """An engine whose wire to the database can be cut."""
    with (
        tempfile.TemporaryDirectory(prefix="tasker-wire-") as folder,
        postgres_proxy(database_url, Path(folder)) as (url, proxy),
        engine_on(url, redis_url, **settings) as engine,
    ):
        yield proxy, engine


class HandPlayedWorker:
    """Registers, claims and reports like a worker, one call at a time."""

    def __init__(self, engine: Engine, handlers: Sequence[str] = (HANDLER,)) -> None:
        self.engine = engine
        self.handlers = handlers
        self.register()

    def register(self) -> None:
        """Be a live worker, anew if need be."""
        self.id = self.engine.database.call(
            functions.register_worker, None, "main", uuid4(), "testhost", 1, [QUEUE], self.handlers
        )

    def claims(self, ids: list[int]) -> Claims:
        """Take steps; the whole answer."""
        return self.engine.run(functions.claim_steps, ids, self.id, uuid4())

    def claim(self, ids: list[int]) -> list[ClaimedStep]:
        """Take steps."""
        return self.claims(ids).steps


def steps(*names: str, after: str | None = None, **fields: Any) -> tuple[StepDefinition, ...]:
    """Steps without parents, or behind one."""
    parents = (after,) if after else ()
    policy = {"retry": Retry(backoff="none"), **fields}
    return tuple(StepDefinition(name, HANDLER, parents, queue=QUEUE, **policy) for name in names)


def submit(engine: Engine, *of: StepDefinition) -> tuple[UUID, list[int]]:
    """A task of these steps; its id and the ids of the steps to publish."""
    definition = TemplateDefinition("tests", f"t-{uuid4().hex[:8]}", "1.0.0", of)
    store(engine.database, definition, QUEUE)
    task = uuid4()
    request = {
        "id": str(task),
        "namespace": "tests",
        "name": definition.name,
        "context": {},
        "request_digest": "",
    }
    reply = engine.run(functions.submit_tasks, json.dumps([request]), joined=False)
    return task, [step for group in reply.publish for step in group[3]]


def complete(step: ClaimedStep, result: str = "1") -> Outcome:
    """The step's handler returned this JSON."""
    return Outcome(step, time.monotonic(), time.monotonic(), result=result)


def states(engine: Engine, task: UUID) -> dict[str, str]:
    """State of each step of the task, and of the task under its empty name."""
    query = (
        "select name, state from tasker.steps where task_id = %s "
        "union all select '', state from tasker.tasks where id = %s"
    )
    return engine.database.call(lambda own: dict(own.execute(query, [task, task]).fetchall()))
