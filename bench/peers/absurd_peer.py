"""Absurd, durable execution on PostgreSQL alone: two worker processes, and a client that spawns.

Its documentation (https://earendil-works.github.io/absurd/sdks/python/) has a worker claim in batches and
poll when it is idle; a worker's threads share one connection, so concurrency comes by processes. The poll is
set far below the default of 0.25 s, which would be most of a latency. A task is one function whose steps are
checkpoints, one after the other.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
from absurd_sdk import Absurd
from absurdctl import BUNDLED_SCHEMA_SQL

from bench.peers.peer import PATIENCE_SECONDS, Run, check
from bench.processes import CONCURRENCY, python
from bench.servers import Servers
from bench.shapes import SHAPES, Shape, number_of, step_result

QUEUE = "bench"
BATCH = 16
POLL_SECONDS = 0.002


class AbsurdPeer:
    """A task ends at its run's `completed_at`."""

    name = "Absurd"
    how = f"two workers, batches of {BATCH}, a poll each {1000 * POLL_SECONDS:g} ms; PostgreSQL"

    def __init__(self) -> None:
        self._open = ExitStack()

    def cannot(self, shape: Shape) -> str | None:  # noqa: ARG002 - it can run all of them
        """Nothing."""
        return None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        url = servers.database("bench_absurd")
        self._connection = self._open.enter_context(psycopg.connect(url, autocommit=True))
        if self._connection.execute("select to_regnamespace('absurd')").fetchone() == (None,):
            self._connection.execute(BUNDLED_SCHEMA_SQL.encode())
        self._client = Absurd(self._connection, queue_name=QUEUE)
        self._client.create_queue()
        for number in range(CONCURRENCY):
            worker = python(servers.folder, f"absurd-{number}", "bench.peers.absurd_peer", url)
            self._open.enter_context(worker)

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:  # noqa: ARG002 - always singly
        """As Peer."""
        began = time.time()
        ids = [self._client.spawn(shape.name, shape.context, queue=QUEUE)["task_id"] for _ in range(count)]
        submitted = time.time()
        for task in ids:
            self._client.await_task_result(task, timeout=PATIENCE_SECONDS)
        query = f"""
            select t.completed_payload, extract(epoch from r.completed_at)::float8
            from absurd.t_{QUEUE} t join absurd.r_{QUEUE} r on r.run_id = t.last_attempt_run
            where t.task_id = any(%s) and t.state = 'completed'
        """  # noqa: S608 - a constant
        rows = self._connection.execute(query.encode(), [ids]).fetchall()
        check(shape, [number_of(result) for result, _ in rows], count)
        return Run(submitted - began, max(at for _, at in rows) - began)

    def stop(self) -> None:
        """As Peer."""
        self._open.close()


def serve(url: str) -> None:
    """Be a worker."""
    app = Absurd(url, queue_name=QUEUE)
    for shape in SHAPES.values():
        app.register_task(shape.name)(partial(_task, shape))
    app.start_worker(batch_size=BATCH, poll_interval=POLL_SECONDS)


def _task(shape: Shape, _context: Any, task: Any) -> Any:
    results: dict[str, Any] = {}
    for step, parents in shape.parents.items():
        inputs = [results[parent] for parent in parents]
        results[step] = task.step(step, partial(step_result, inputs, shape.milliseconds, shape.heavy))
    return results[shape.last]


if __name__ == "__main__":
    serve(sys.argv[1])
