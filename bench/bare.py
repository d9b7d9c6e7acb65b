"""What no system on these servers can be faster than: a message, a commit, a statement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import repeat

import psycopg

from bench.peers import canvas
from bench.peers.peer import PATIENCE_SECONDS, WrongResult
from bench.processes import celery_worker
from bench.servers import Servers

MESSAGES = 2000
STATEMENTS = 500
REPEATS = 3


def bare(servers: Servers) -> dict[str, float]:
    """Medians: messages a second through an idle Celery, milliseconds of a commit and of a statement."""
    with psycopg.connect(servers.database("bench_bare"), autocommit=True) as connection:
        connection.execute("create table if not exists one (at timestamptz)")
        commit = _milliseconds(lambda: connection.execute("insert into one values (now())", prepare=True))
        statement = _milliseconds(lambda: connection.execute("select 1", prepare=True).fetchone())
    return {
        "Celery messages that do nothing, /s": _messages(servers),
        "commit of one row, ms": commit,
        "prepared select 1, ms": statement,
    }


def _messages(servers: Servers) -> float:
    """From the first publish until the last is executed. They are taken in order, so a last one tells."""
    from bench.peers import canvas_app

    app = canvas_app.without_results
    nothing, last = app.tasks["bench.step"], app.tasks["bench.last"]
    canvas_app.ends.delete(canvas_app.ENDS)
    rates = []
    worker = "bench.peers.canvas_app:without_results"
    with celery_worker(servers.folder, worker, *canvas.OPTIONS):
        last.delay(None)
        canvas_app.ends.blpop(canvas_app.ENDS, timeout=PATIENCE_SECONDS)
        for _ in range(REPEATS):
            began = time.perf_counter()
            for _ in range(MESSAGES):
                nothing.delay()
            last.delay(None)
            canvas_app.ends.blpop(canvas_app.ENDS, timeout=PATIENCE_SECONDS)
            rates.append(MESSAGES / (time.perf_counter() - began))
        (stats,) = app.control.inspect(timeout=5).stats().values()
    if stats["total"].get("bench.step", 0) != MESSAGES * REPEATS:
        raise WrongResult(f"{MESSAGES * REPEATS} messages were sent, and executed: {stats['total']}")
    return statistics.median(rates)


def _milliseconds(call: Callable[[], object]) -> float:
    taken = []
    for _ in repeat(None, STATEMENTS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)
