"""Prefect with a server of its own, in two processes that call their flows themselves.

The server runs apart and on PostgreSQL, as its documentation asks for more than a trial
(https://docs.prefect.io/v3/how-to-guides/self-hosted/server-cli); where PostgreSQL lacks the extension that
it needs, as the embedded one does, on its default, SQLite. Tasks are called one after the other, as those
that do nothing gain nothing by a task runner; logs are not sent to the server, and results are not kept
(https://docs.prefect.io/v3/advanced/results), both of which would be slower: only states are remembered.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psycopg

from bench.peers.pair import Pair, Ran, Work
from bench.peers.peer import PATIENCE_SECONDS, Run
from bench.processes import python
from bench.servers import Servers
from bench.shapes import SHAPES, Shape, number_of, step_result

version("prefect")  # raises where it is missing; the package itself reads its settings when it is imported

MOST_STEPS = 600


class PrefectPeer:
    """A flow ends when its call returns."""

    name = "Prefect"

    def __init__(self) -> None:
        self._open = ExitStack()
        self._database = "PostgreSQL"

    @property
    def how(self) -> str:
        """Known once it has been started."""
        return f"two processes, flows called in process; its server on {self._database}"

    def cannot(self, shape: Shape) -> str | None:
        """The widest, which takes minutes."""
        return "it would take minutes" if len(shape.parents) > MOST_STEPS else None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        url = servers.database("bench_prefect")
        if _has_trigrams(url):
            os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = url.replace("://", "+asyncpg://", 1)
        else:
            self._database = "SQLite, for want of pg_trgm"
        port = _free_port()
        os.environ |= {
            "DO_NOT_TRACK": "1",
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_HOME": str(servers.folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
        self._open.enter_context(python(servers.folder, "prefect-server", *command))
        _until_answers(f"http://127.0.0.1:{port}/api/health")
        self._pair = Pair("prefect", program, servers)
        self._open.callback(self._pair.stop)

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:  # noqa: ARG002 - always singly
        """As Peer."""
        return self._pair.run(shape, count)

    def stop(self) -> None:
        """As Peer."""
        self._open.close()


@contextmanager
def program(url: str, number: int) -> Iterator[Work]:  # noqa: ARG001 - the server knows the database
    """One of the processes."""
    from prefect import flow, task

    step = task(step_result)

    @flow
    def steps(name: str, context: dict[str, Any]) -> Any:  # noqa: ARG001 - recorded, as a context is
        shape = SHAPES[name]
        results: dict[str, Any] = {}
        for each, parents in shape.parents.items():
            results[each] = step([results[parent] for parent in parents], shape.milliseconds, shape.heavy)
        return results[shape.last]

    yield partial(_work, steps)


def _work(steps: Any, shape: Shape, count: int) -> Ran:
    numbers = [number_of(steps(shape.name, shape.context)) for _ in range(count)]
    return Ran(numbers, None, time.time())


def _has_trigrams(url: str) -> bool:
    with psycopg.connect(url) as connection:
        query = "select from pg_available_extensions where name = 'pg_trgm'"
        return bool(connection.execute(query).fetchall())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until_answers(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urlopen(url, timeout=5):  # noqa: S310 - our own server
                return
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
