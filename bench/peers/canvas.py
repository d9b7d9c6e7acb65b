"""Celery's canvas on Redis, with and without a result backend.

Used as https://docs.celeryq.dev/en/stable/userguide/optimizing.html and its neighbours advise for many short
tasks: no results where nobody reads them (userguide/tasks.html, "Ignore results you don't want"), a prefork
pool, JSON, and no gossip, mingle or heartbeats between workers. A chord needs results
(userguide/canvas.html, "Chords"), so without them only chains run. The prefetch multiplier is left alone: 64,
as that page proposes for short tasks, took the same processor time here.
"""

from __future__ import annotations

import gc
import json
import time
from contextlib import ExitStack

from bench.peers.peer import PATIENCE_SECONDS, Run, check
from bench.processes import celery_worker
from bench.servers import Servers
from bench.shapes import Shape, number_of

OPTIONS = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class CanvasPeer:
    """A canvas ends when its last task runs. There is no call that submits many."""

    def __init__(self, *, results: bool, joins_only: bool = False) -> None:
        self.name = "canvas with results" if results else "canvas"
        self.how = "Celery, prefork 2; " + ("Redis as result backend" if results else "no results")
        self._results = results
        self._joins_only = joins_only
        self._open = ExitStack()

    def cannot(self, shape: Shape) -> str | None:
        """Shapes with a join, without results; with `joins_only` all others."""
        joined = any(len(parents) > 1 for parents in shape.parents.values())
        if joined and not self._results:
            return "a chord needs results"
        return "a chain is quicker without results" if self._joins_only and not joined else None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        from bench.peers import canvas_app

        self._app = canvas_app
        app = "with_results" if self._results else "without_results"
        canvas_app.ends.delete(canvas_app.ENDS)
        self._open.enter_context(celery_worker(servers.folder, f"bench.peers.canvas_app:{app}", *OPTIONS))

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:  # noqa: ARG002 - always singly
        """As Peer."""
        app = self._app.with_results if self._results else self._app.without_results
        canvas = self._app.canvas_of(app, shape)
        began = time.time()
        for _ in range(count):
            canvas.apply_async()
        submitted = time.time()
        ends = [self._end(shape) for _ in range(count)]
        check(shape, [number for _, number in ends], count)
        return Run(submitted - began, max(at for at, _ in ends) - began)

    def stop(self) -> None:
        """As Peer."""
        self._open.close()
        gc.collect()  # a result that is collected later unsubscribes from Redis, which is gone at exit

    def _end(self, shape: Shape) -> tuple[float, int]:
        ended = self._app.ends.blpop(self._app.ENDS, timeout=PATIENCE_SECONDS)
        if ended is None:
            raise TimeoutError(f"{self.name}: no {shape.name} ended within {PATIENCE_SECONDS} s")
        at, result = json.loads(ended[1])
        return at, number_of(result)
