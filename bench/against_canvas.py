"""Tasker beside Celery's own canvas, in one run: latency of a chain of four, and a thousand chains at once.

Run it with `make bench`. Both sides use the same PostgreSQL and Redis (embedded unless TASKER_DATABASE_URL
and TASKER_BROKER_URL are set), one worker of two prefork processes each, and handlers that do nothing.
Rounds alternate; the figures are medians. A Tasker task ends at its `finished_at`; a canvas chain ends when
its last task has run.
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
from urllib.parse import unquote, urlsplit

import redis

from tasker import Tasker
from tasker.db.migrate import migrate
from tasker.dev.servers import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from uuid import UUID

LATENCY_TASKS = 60
BULK_TASKS = 1000
ROUNDS = 5
BIG_STEPS = 10_000


def main() -> None:
    """Print each figure of both sides, and their ratio."""
    with ExitStack() as stack:
        stack.enter_context(_servers())
        from bench import noop

        stack.enter_context(_worker("bench.noop:tasker_app"))
        stack.enter_context(_worker("bench.noop:canvas_app"))
        tasker = Tasker(celery=noop.tasker_app)
        tasker.submit(noop.linear).wait(timeout=60)
        ends = _redis(os.environ["TASKER_BROKER_URL"])
        sides: tuple[Callable[[int], float], ...] = (
            lambda count: _tasker_latency(tasker, count),
            lambda count: _canvas_latency(noop, ends, count),
        )
        for side in sides:
            side(20)
        latency = [[side(LATENCY_TASKS // ROUNDS) for side in sides] for _ in range(ROUNDS)]
        bulk_sides = (lambda: _tasker_bulk(tasker), lambda: _canvas_bulk(noop, ends))
        for bulk in bulk_sides:
            bulk()
        bulks = [[bulk() for bulk in bulk_sides] for _ in range(ROUNDS)]
        creation = _creation(tasker)
    _print("latency of linear-4, ms", latency)
    _print("1 000 linear-4 at once, steps/s", bulks)
    print(f"task of {BIG_STEPS} steps created: {creation:.2f} s")


@contextmanager
def _servers() -> Iterator[None]:
    if "TASKER_DATABASE_URL" in os.environ and "TASKER_BROKER_URL" in os.environ:
        migrate(os.environ["TASKER_DATABASE_URL"])
        yield
        return
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as system:
        os.environ |= {"TASKER_DATABASE_URL": system.database_url, "TASKER_BROKER_URL": system.broker_url}
        migrate(system.database_url)
        yield


@contextmanager
def _worker(app: str) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        app,
        "worker",
        "-c",
        "2",
        "-l",
        "error",
        "-n",
        app.replace(":", "-"),
    ]
    environment = os.environ | {"C_FORCE_ROOT": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as worker:
        try:
            yield
        finally:
            worker.terminate()


def _redis(url: str) -> redis.Redis:
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return redis.Redis(unix_socket_path=unquote(parts.path))
    return redis.Redis.from_url(url)


def _tasker_latency(tasker: Tasker, count: int) -> float:
    taken = []
    for _ in range(count):
        began = time.time()
        task = tasker.submit("bench/linear-4").wait(timeout=30)
        taken.append(_finished([task.id], tasker) - began)
    return 1000 * statistics.median(taken)


def _canvas_latency(noop: ModuleType, ends: redis.Redis, count: int) -> float:
    taken = []
    for _ in range(count):
        began = time.time()
        noop.chain_of_four().apply_async()
        taken.append(float(ends.blpop("bench-ends", timeout=30)[1]) - began)
    return 1000 * statistics.median(taken)


def _tasker_bulk(tasker: Tasker) -> float:
    began = time.time()
    tasks = tasker.submit_many([("bench/linear-4", None)] * BULK_TASKS)
    for task in tasks:
        task.wait(timeout=120)
    return 4 * BULK_TASKS / (_finished([task.id for task in tasks], tasker) - began)


def _canvas_bulk(noop: ModuleType, ends: redis.Redis) -> float:
    began = time.time()
    for _ in range(BULK_TASKS):
        noop.chain_of_four().apply_async()
    last = max(float(ends.blpop("bench-ends", timeout=120)[1]) for _ in range(BULK_TASKS))
    return 4 * BULK_TASKS / (last - began)


def _finished(ids: list[UUID], tasker: Tasker) -> float:
    query = "select max(extract(epoch from finished_at)::float8) from tasker.tasks where id = any(%s)"
    (latest,) = tasker.database.call(lambda own: own.execute(query, [ids]).fetchall())[0]
    return float(latest)


def _creation(tasker: Tasker) -> float:
    from bench import noop

    taken = []
    for _ in range(3):
        began = time.perf_counter()
        task = tasker.submit(noop.wide)
        taken.append(time.perf_counter() - began)
        task.cancel("measured")
    return min(taken)


def _print(what: str, rounds: list[list[float]]) -> None:
    ours, theirs = (statistics.median(values) for values in zip(*rounds, strict=True))
    ratio = statistics.median(mine / other for mine, other in rounds)
    spread = " ".join(f"{mine / other:.2f}" for mine, other in rounds)
    print(f"{what}: Tasker {ours:.1f}, canvas {theirs:.1f}, ratio {ratio:.2f} (rounds: {spread})")


if __name__ == "__main__":
    main()
