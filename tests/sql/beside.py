"""Calls that run beside the test's own thread, and who waits for whom: interleavings without a sleep."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import Any, TypeVar

import pytest

from tests.sql.protocol import Connection, Protocol

Answer = TypeVar("Answer")

SECONDS_TO_BLOCK = 10.0


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
        blockers = self.wait_until_blocked(waiting, future)
        assert blockers == [blocker.connection.info.backend_pid]
        return future

    def wait_until_blocked(self, waiting: Protocol, future: Future[Any]) -> list[int]:
        """Wait until the session's call waits for a lock; returns the processes that hold it back."""
        pid = waiting.connection.info.backend_pid
        deadline = monotonic() + SECONDS_TO_BLOCK
        while monotonic() < deadline:
            row = self._observer.execute("select pg_blocking_pids(%s)", [pid]).fetchone()
            if row is not None and row[0]:
                return list(row[0])
            if wait([future], timeout=0.001).done:
                pytest.fail(f"the call did not wait for a lock but returned {future.result()}")
        pytest.fail("the call neither waited for a lock nor returned")
