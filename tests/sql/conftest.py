"""Sessions that speak the protocol; what they leave in the database is checked after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sql.beside import Beside
from tests.sql.protocol import Connection, Protocol
from tests.sql.soundness import violations


@pytest.fixture
def protocol(session: Connection) -> Iterator[Protocol]:
    """One session, rolled back afterwards."""
    yield Protocol(session)
    assert violations(session) == {}


@pytest.fixture
def open_session(connect: Callable[[], Connection]) -> Iterator[Callable[[], Protocol]]:
    """Opens autocommit sessions to one database of this test alone; none waits for a lock for ever."""

    def opened() -> Protocol:
        connection = connect()
        connection.execute("set lock_timeout = '10s'")
        return Protocol(connection)

    yield opened
    assert violations(connect()) == {}


@pytest.fixture
def beside(connect: Callable[[], Connection]) -> Iterator[Beside]:
    """For calls that run while the test goes on."""
    with ThreadPoolExecutor() as threads:
        yield Beside(threads, connect())
