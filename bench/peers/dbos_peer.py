"""DBOS on PostgreSQL, in two processes that start their workflows themselves, which is its quickest way.

The makers measure so too (https://www.dbos.dev/blog/benchmarking-workflow-execution-scalability-on-postgres:
workflows that are started locally need no poll of a queue). A step is checkpointed by a write of its own;
steps run one after the other in the workflow's thread, since those that do nothing gain nothing by threads of
their own. No logs, traces or admin server (https://docs.dbos.dev/python/reference/configuration).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dbos import DBOS, DBOSConfig

from bench.peers.pair import Pair, Ran, Work
from bench.peers.peer import Run
from bench.servers import Servers
from bench.shapes import SHAPES, Shape, number_of, step_result

POOL = 20
THREADS = 20


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
        "application_version": "1",
        "log_level": "WARNING",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        yield _work
    finally:
        DBOS.destroy()


def _work(shape: Shape, count: int) -> Ran:
    handles = [DBOS.start_workflow(workflow, shape.name, shape.context) for _ in range(count)]
    submitted = time.time()
    numbers = [number_of(handle.get_result()) for handle in handles]
    return Ran(numbers, submitted, time.time())
