"""Through PgBouncer in transaction mode, where every call may meet another session of the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasker.db.engine import Database
from tasker.db.migrate import migrate, status
from tests.pooler import PROGRAM, SERVER_CONNECTIONS, pooler_before

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (apt install pgbouncer)")


@pytest.fixture(params=["extra_float_digits", "extra_float_digits, options"], ids=["refuses", "ignores"])
def pooled(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> Iterator[Callable[[str], str]]:
    """What leads a URL through a PgBouncer that refuses our limits at the start, or drops them."""
    with pooler_before(database_url, tmp_path, ignored=request.param) as through:
        yield through


def test_calls_of_many_threads_share_few_sessions_of_the_server(
    pooled: Callable[[str], str], database_url: str
) -> None:
    database = Database(pooled(database_url), connections=8)
    sessions: set[int] = set()
    query = "select pg_backend_pid(), %s::int, pg_sleep(0.002)"

    def work(number: int) -> None:
        for _ in range(20):
            (row,) = database.call(lambda own: own.execute(query, [number]).fetchall())
            sessions.add(row[0])
            assert row[1] == number

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 2 <= len(sessions) <= SERVER_CONNECTIONS
    database.close()


def test_a_database_can_be_migrated_through_it(empty_database_url: str, tmp_path: Path) -> None:
    with pooler_before(empty_database_url, tmp_path) as through:
        url = through(empty_database_url)
        assert migrate(url)
        assert migrate(url) == []
        assert status(url).current
