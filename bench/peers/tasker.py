"""Tasker: a worker of two prefork processes, on the defaults."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack
from typing import Any

from bench.peers.peer import PATIENCE_SECONDS, Run, check
from bench.processes import celery_worker
from bench.servers import Servers
from bench.shapes import Shape, number_of
from tasker import Task
from tasker.db.migrate import migrate
from tasker.orchestration.templates import store_templates

CREATIONS = 5
MOST_STEPS = 100_000
"""The default of 10 000 is two short of the widest fan."""


class TaskerPeer:
    """A task ends at its `finished_at`."""

    name = "Tasker"
    how = "prefork 2, defaults; PostgreSQL and Redis"

    def __init__(self, **variables: str) -> None:
        """`variables` are added to the worker's environment."""
        self._variables = variables
        self._open = ExitStack()

    def cannot(self, shape: Shape) -> str | None:  # noqa: ARG002 - it can run all of them
        """Nothing."""
        return None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        migrate(servers.database_url)
        os.environ["TASKER_TEMPLATE_MAX_STEPS"] = str(MOST_STEPS)
        from bench.peers import tasker_app

        self._tasker = tasker_app.tasker
        queue = tasker_app.app.conf.task_default_queue
        store_templates(self._tasker.database, tasker_app.templates.values(), queue)
        worker = celery_worker(servers.folder, "bench.peers.tasker_app", **self._variables)
        self._open.enter_context(worker)

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:
        """As Peer."""
        name = f"bench/{shape.name}"
        began = time.time()
        if singly or count == 1:
            tasks = [self._tasker.submit(name, shape.context) for _ in range(count)]
        else:
            tasks = self._tasker.submit_many([(name, shape.context)] * count)
        submitted = time.time()
        for task in tasks:
            task.wait(timeout=PATIENCE_SECONDS)
        return Run(submitted - began, self._checked(shape, tasks) - began)

    def creation_seconds(self, shape: Shape) -> float:
        """How long `submit` takes for one task of a shape; the median of a few, which are cancelled."""
        taken = []
        for _ in range(CREATIONS):
            began = time.perf_counter()
            task = self._tasker.submit(f"bench/{shape.name}")
            taken.append(time.perf_counter() - began)
            task.cancel("measured")
        return statistics.median(taken)

    def stop(self) -> None:
        """As Peer."""
        self._open.close()

    def _checked(self, shape: Shape, tasks: list[Task]) -> float:
        query = """
            select extract(epoch from t.finished_at)::float8, a.result, t.state
            from tasker.tasks t
            join tasker.steps s on s.task_id = t.id and s.name = %s
            join tasker.step_attempts a on a.step_id = s.id and a.attempt = s.attempt
            where t.id = any(%s)
        """
        parameters = [shape.last, [task.id for task in tasks]]

        def ends(connection: Any) -> list[Any]:
            return list(connection.execute(query, parameters))

        rows = self._tasker.database.call(ends)
        check(shape, [number_of(result) for _, result, state in rows if state == "complete"], len(tasks))
        return float(max(finished_at for finished_at, *_ in rows))
