"""DBOS on PostgreSQL: in two processes that start their workflows themselves, and by a queue that they serve.

Its makers measure both (https://www.dbos.dev/blog/benchmarking-workflow-execution-scalability-on-postgres): a
workflow that is started locally waits for no poll. A queue is polled far more often than by default
(https://docs.dbos.dev/python/reference/queues, polling_interval_sec), since a second would be most of a
latency. A step is checkpointed by a write of its own; steps run one after the other in the workflow's thread,
since those that do nothing gain nothing by threads of their own. No logs and no traces
(https://docs.dbos.dev/python/reference/configuration).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

from bench.peers.pair import Pair, Ran, Work
from bench.peers.peer import Run, check
from bench.servers import Servers
from bench.shapes import SHAPES, Shape, number_of, step_result

POOL = 20
THREADS = 20
QUEUE = "bench"
POLL_SECONDS = 0.01
VERSION = "1"


class DbosPeer:
    """A workflow ends when its result is recorded."""

    name = "DBOS"
    how = "two processes, workflows started in process; PostgreSQL"

    def cannot(self, shape: Shape) -> str | None:  # noqa: ARG002 - it can run all of them
        """Nothing."""
        return None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        self._pair = Pair("dbos", program, servers)

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:  # noqa: ARG002 - always singly
        """As Peer."""
        return self._pair.run(shape, count)

    def stop(self) -> None:
        """As Peer."""
        self._pair.stop()


class DbosQueuePeer:
    """A workflow ends at its `completed_at`."""

    name = "DBOS by a queue"
    how = f"two processes that poll a queue each {1000 * POLL_SECONDS:g} ms; PostgreSQL"

    def cannot(self, shape: Shape) -> str | None:  # noqa: ARG002 - it can run all of them
        """Nothing."""
        return None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        self._pair = Pair("dbos_queue", queue_program, servers)
        self._url = servers.database("bench_dbos_queue")
        self._client = DBOSClient(system_database_url=self._url)

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:  # noqa: ARG002 - always singly
        """As Peer."""
        options: EnqueueOptions = {"queue_name": QUEUE, "workflow_name": workflow.__qualname__}
        began = time.time()
        handles = [self._client.enqueue(options, shape.name, shape.context) for _ in range(count)]
        submitted = time.time()
        numbers = [number_of(handle.get_result(polling_interval_sec=POLL_SECONDS)) for handle in handles]
        check(shape, numbers, count)
        query = "select max(completed_at) from dbos.workflow_status where workflow_uuid = any(%s)"
        with psycopg.connect(self._url) as connection:
            ids = [handle.get_workflow_id() for handle in handles]
            ((ended_ms,),) = connection.execute(query, [ids]).fetchall()
        return Run(submitted - began, ended_ms / 1000 - began)

    def stop(self) -> None:
        """As Peer."""
        self._client.destroy()
        self._pair.stop()


@DBOS.step()
def step(inputs: list[Any], milliseconds: int, heavy: bool) -> Any:  # noqa: FBT001 - recorded by position
    """A step."""
    return step_result(inputs, milliseconds, heavy)


@DBOS.workflow()
def workflow(name: str, context: dict[str, Any]) -> Any:  # noqa: ARG001 - recorded, as a context is
    """A task of a shape."""
    shape = SHAPES[name]
    results: dict[str, Any] = {}
    for each, parents in shape.parents.items():
        results[each] = step([results[parent] for parent in parents], shape.milliseconds, shape.heavy)
    return results[shape.last]


@contextmanager
def program(url: str, number: int) -> Iterator[Work]:
    """One of the processes."""
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "sys_db_pool_size": POOL,
        "max_executor_threads": THREADS,
        "executor_id": str(number),
        "application_version": VERSION,
        "log_level": "WARNING",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        yield _work
    finally:
        DBOS.destroy()


@contextmanager
def queue_program(url: str, number: int) -> Iterator[Work]:
    """One of the processes that serve the queue; started workflows are its own affair."""
    with program(url, number) as work:
        DBOS.register_queue(QUEUE, worker_concurrency=THREADS, polling_interval_sec=POLL_SECONDS)
        yield work


def _work(shape: Shape, count: int) -> Ran:
    handles = [DBOS.start_workflow(workflow, shape.name, shape.context) for _ in range(count)]
    submitted = time.time()
    numbers = [number_of(handle.get_result()) for handle in handles]
    return Ran(numbers, submitted, time.time())
