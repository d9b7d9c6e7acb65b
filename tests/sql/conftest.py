"""Sessions that speak the protocol; what they leave in the database is checked after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias, TypeVar

import psycopg
import pytest

from tests.sql.protocol import Protocol
from tests.sql.soundness import violations

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Answer = TypeVar("Answer")

SECONDS_TO_BLOCK = 10.0


@pytest.fixture
def protocol(session: Connection) -> Iterator[Protocol]:
    """One session, rolled back afterwards."""
    yield Protocol(session)
    assert violations(session) == {}


@pytest.fixture
def open_session(connect: Callable[[], Connection]) -> Iterator[Callable[[], Protocol]]:
    """Opens autocommit sessions to one database of this test alone."""
    yield lambda: Protocol(connect())
    assert violations(connect()) == {}


class Beside:
    """Runs calls beside the test's own thread, to see who waits for whom."""

    def __init__(self, threads: ThreadPoolExecutor, observer: Connection) -> None:
        self._threads = threads
        self._observer = observer

    def start(self, call: Callable[[], Answer]) -> Future[Answer]:
        """Start a call in another thread; its session must not be used until it has ended."""
        return self._threads.submit(call)

    def start_blocked(
        self, waiting: Protocol, blocker: Protocol, call: Callable[[], Answer]
    ) -> Future[Answer]:
        """Start a call of the session `waiting`; returns once it waits for a lock that `blocker` holds."""
        future = self.start(call)
        pid, blocking_pid = waiting.connection.info.backend_pid, blocker.connection.info.backend_pid
        for _ in range(int(SECONDS_TO_BLOCK / 0.002)):
            row = self._observer.execute("select pg_blocking_pids(%s)", [pid]).fetchone()
            if row is not None and row[0] == [blocking_pid]:
                return future
            if wait([future], timeout=0.002).done:
                pytest.fail(f"the call did not wait for a lock but returned {future.result()}")
        pytest.fail(f"the call neither waited for the lock of {blocking_pid} nor returned")


@pytest.fixture
def beside(connect: Callable[[], Connection]) -> Iterator[Beside]:
    """For calls that run while the test goes on."""
    with ThreadPoolExecutor() as threads:
        yield Beside(threads, connect())
