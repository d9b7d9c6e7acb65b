"""Tasker beside Celery's own canvas, in one run: latency of a chain of four, and a thousand chains at once.

Run it with `make bench`. All sides use the same Redis (embedded, as the PostgreSQL of Tasker, unless
TASKER_DATABASE_URL and TASKER_BROKER_URL are set), a worker of two prefork processes each, and handlers that
do nothing. Rounds alternate; the figures are medians. A Tasker task ends at its `finished_at`; a canvas chain
when its last task runs: once without results, and once with Redis as Celery's result backend, since the
results of a Tasker task can be read too.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tasker.db.migrate import migrate
from tasker.dev.servers import start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from celery import Celery

    from tasker import Task

WARM_UP_TASKS = 20
LATENCY_TASKS = 12
BULK_TASKS = 1000
ROUNDS = 5


class TaskerSide:
    """Tasks of `bench/linear-4`."""

    name = "Tasker"

    def __init__(self, noop: ModuleType) -> None:
        self._tasker = noop.tasker
        self._tasker.submit(noop.linear).wait(timeout=60)

    def latency(self) -> float:
        """Milliseconds from the call of `submit` to `finished_at`; the median of several."""
        taken = []
        for _ in range(LATENCY_TASKS):
            began = time.time()
            taken.append(self._ended([self._tasker.submit("bench/linear-4").wait(timeout=30)]) - began)
        return 1000 * statistics.median(taken)

    def bulk(self) -> float:
        """Steps a second, of tasks submitted together."""
        began = time.time()
        tasks = self._tasker.submit_many([("bench/linear-4", None)] * BULK_TASKS)
        for task in tasks:
            task.wait(timeout=120)
        return 4 * BULK_TASKS / (self._ended(tasks) - began)

    def _ended(self, tasks: list[Task]) -> float:
        query = "select max(extract(epoch from finished_at)::float8) from tasker.tasks where id = any(%s)"
        ids = [task.id for task in tasks]
        ((latest,),) = self._tasker.database.call(lambda own: own.execute(query, [ids]).fetchall())
        return float(latest)


class CanvasSide:
    """Celery chains on an app of their own."""

    def __init__(self, name: str, noop: ModuleType, app: Celery) -> None:
        self.name = name
        self._chain = noop.chain_of_four(app)
        self._ends = noop.ends
        self._chain.apply_async()
        self._ended()

    def latency(self) -> float:
        """Milliseconds from the call of `apply_async` to the last task; the median of several."""
        taken = []
        for _ in range(LATENCY_TASKS):
            began = time.time()
            self._chain.apply_async()
            taken.append(self._ended() - began)
        return 1000 * statistics.median(taken)

    def bulk(self) -> float:
        """Tasks a second, of chains submitted one after the other."""
        began = time.time()
        for _ in range(BULK_TASKS):
            self._chain.apply_async()
        return 4 * BULK_TASKS / (max(self._ended() for _ in range(BULK_TASKS)) - began)

    def _ended(self) -> float:
        return float(self._ends.blpop("bench-ends", timeout=120)[1])


def main() -> None:
    """Print each figure of all sides, and the ratios."""
    with ExitStack() as stack:
        stack.enter_context(_servers())
        from bench import noop

        for app in ("tasker_app", "canvas_app", "results_app"):
            stack.enter_context(_worker(f"bench.noop:{app}"))
        sides = (
            TaskerSide(noop),
            CanvasSide("canvas", noop, noop.canvas_app),
            CanvasSide("canvas with results", noop, noop.results_app),
        )
        for side in sides:
            side.latency()
            side.bulk()
        _print("latency of linear-4, ms", [[side.latency() for side in sides] for _ in range(ROUNDS)], sides)
        _print(
            f"{BULK_TASKS} linear-4, steps/s", [[side.bulk() for side in sides] for _ in range(ROUNDS)], sides
        )
        print(f"task of {len(noop.wide.definition.steps)} steps created: {_creation(noop):.3f} s")


@contextmanager
def _servers() -> Iterator[None]:
    with ExitStack() as stack:
        if "TASKER_DATABASE_URL" not in os.environ or "TASKER_BROKER_URL" not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            system = stack.enter_context(start(Path(folder)))
            os.environ["TASKER_DATABASE_URL"] = system.database_url
            os.environ["TASKER_BROKER_URL"] = system.broker_url
        migrate(os.environ["TASKER_DATABASE_URL"])
        yield


@contextmanager
def _worker(app: str) -> Iterator[None]:
    name = app.rpartition(":")[2]
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "2", "-l", "error", "-n", name]
    environment = os.environ | {"C_FORCE_ROOT": "1"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as worker:
        try:
            yield
        finally:
            worker.terminate()


def _creation(noop: ModuleType) -> float:
    noop.tasker.submit(noop.wide).cancel("only stores the template")
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        task = noop.tasker.submit("bench/wide")
        taken.append(time.perf_counter() - began)
        task.cancel("measured")
    return statistics.median(taken)


def _print(what: str, rounds: list[list[float]], sides: tuple[TaskerSide | CanvasSide, ...]) -> None:
    print(
        f"{what}: "
        + ", ".join(
            f"{side.name} {statistics.median(values):.1f}"
            for side, values in zip(sides, zip(*rounds, strict=True), strict=True)
        )
    )
    for index, side in enumerate(sides[1:], 1):
        ratios = [each[0] / each[index] for each in rounds]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  Tasker / {side.name}: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
