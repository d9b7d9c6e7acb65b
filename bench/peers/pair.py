"""Sides that run tasks in the process that submits them: two such processes, which share the tasks."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench.peers.peer import Run, check
from bench.processes import CONCURRENCY, STOP_SECONDS
from bench.servers import Servers
from bench.shapes import SHAPES, Shape


class Ran(NamedTuple):
    """What one process did: the numbers of its tasks, and when the last was submitted and ended.

    `submitted` is None where there is no submit apart from running.
    """

    numbers: list[int]
    submitted: float | None
    ended: float


Work = Callable[[Shape, int], Ran]
Program = Callable[[str, int], AbstractContextManager[Work]]
"""Opened in each process with the database's URL and the number of the process."""


class Pair:
    """Two processes that run one program."""

    def __init__(self, name: str, program: Program, servers: Servers) -> None:
        """Returns when both are ready. Their output goes to a log of this name."""
        self._pipes: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("spawn")
        url = servers.database(f"bench_{name}")
        for number in range(CONCURRENCY):
            own, theirs = context.Pipe()
            log = str(servers.folder / f"{name}-{number}.log")
            process = context.Process(target=_serve, args=(theirs, program, url, number, log), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(own)
            self._processes.append(process)
            own.recv()  # one after the other, since the first may create its tables

    def run(self, shape: Shape, count: int) -> Run:
        """As Peer.run; a single task goes to the first process."""
        began = time.time()
        shares = [count // CONCURRENCY + (number < count % CONCURRENCY) for number in range(CONCURRENCY)]
        asked = [(pipe, share) for pipe, share in zip(self._pipes, shares, strict=True) if share]
        for pipe, share in asked:
            pipe.send((shape.name, share))
        found = [pipe.recv() for pipe, _ in asked]
        check(shape, [number for ran in found for number in ran.numbers], count)
        submitted = [ran.submitted for ran in found if ran.submitted is not None]
        return Run(max(submitted) - began if submitted else None, max(ran.ended for ran in found) - began)

    def stop(self) -> None:
        """End both."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(STOP_SECONDS)
            process.kill()


def _serve(pipe: Connection, program: Program, url: str, number: int, log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    with program(url, number) as work:
        pipe.send(None)
        while (asked := pipe.recv()) is not None:
            name, count = asked
            pipe.send(work(SHAPES[name], count))
