"""The proxy does what its rows of the matrix say, or they would prove nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import Connection
from tests.faults.proxy import Cut, Proxy, postgres_proxy, redis_proxy

INSERT = "insert into noted values (%s)"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough a path for sockets."""
    with tempfile.TemporaryDirectory(prefix="tasker-wire-") as name:
        yield Path(name)


@pytest.fixture
def noted(connection: Connection) -> Connection:
    connection.execute("create table noted (number integer)")
    return connection


@pytest.fixture
def database(database_url: str, folder: Path) -> Iterator[tuple[str, Proxy]]:
    with postgres_proxy(database_url, folder) as (url, proxy):
        yield url, proxy


def through(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url, autocommit=True, prepare_threshold=0)


@pytest.mark.parametrize(
    ("where", "expected"),
    [(Cut.BEFORE, []), (Cut.UNCOMMITTED, []), (Cut.AFTER, [(2,)])],
    ids=["before", "uncommitted", "after"],
)
def test_a_cut_leaves_of_a_statement_what_it_says(
    database: tuple[str, Proxy], noted: Connection, where: Cut, expected: list[tuple[int]]
) -> None:
    url, proxy = database
    with through(url) as client:
        client.execute(INSERT, [1])
        planned = proxy.plan("into noted", where, nth=2)
        client.execute(INSERT, [1])
        with pytest.raises(psycopg.OperationalError):
            client.execute(INSERT, [2])
    planned.wait()
    # whoever is cut off uncommitted holds its row locks until the server has noticed
    with noted.transaction():
        noted.execute("lock table noted in access exclusive mode")
    assert noted.execute("select number from noted where number = 2").fetchall() == expected
    with through(url) as client:
        assert client.execute("select count(*) from noted where number = 1").fetchone() == (2,)


def test_a_swallowed_reply_leaves_the_client_waiting_until_the_wire_is_cut(
    database: tuple[str, Proxy], noted: Connection
) -> None:
    url, proxy = database
    planned = proxy.plan("into noted", Cut.SILENCE)
    with through(url) as client, ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(client.execute, INSERT, [1])
        planned.wait()
        assert noted.execute("select number from noted").fetchall() == [(1,)]
        assert not waiting.done()
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            waiting.result(10)


def test_a_black_hole_holds_everything_back_and_an_absent_server_refuses(
    database: tuple[str, Proxy], noted: Connection
) -> None:
    url, proxy = database
    with through(url) as client, ThreadPoolExecutor(1) as beside:
        proxy.blackhole()
        waiting = beside.submit(client.execute, INSERT, [1])
        assert noted.execute("select number from noted").fetchall() == []
        proxy.heal()
        waiting.result(10)
    with proxy.away(), pytest.raises(psycopg.OperationalError):
        through(url)
    through(url).close()


def test_a_popped_message_whose_reply_is_swallowed_is_nowhere(redis_url: str, folder: Path) -> None:
    with redis_proxy(redis_url, folder) as (url, proxy):
        client = redis.Redis(
            unix_socket_path=str(folder / "redis.sock"), db=number_of(url), retry=Retry(NoBackoff(), 0)
        )
        planned = proxy.plan("BRPOP", Cut.AFTER)
        assert client.brpop(["queue"], 0.01) is None, "an empty queue has nothing to lose"
        client.lpush("queue", "message")
        with pytest.raises(redis.ConnectionError):
            client.brpop(["queue"], 1)
        planned.wait()
        assert client.llen("queue") == 0

        planned = proxy.plan("LPUSH queue", Cut.AFTER)
        with pytest.raises(redis.ConnectionError):
            client.lpush("queue", "message")
        planned.wait()
        assert client.llen("queue") == 1
        client.close()


def number_of(url: str) -> int:
    """The logical database that a URL in Celery's notation names."""
    return int(urlsplit(url).query.removeprefix("virtual_host="))
