"""Calls that meet a deadlock, a restart or a wrong address."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from tasker.db.engine import Database
from tasker.domain.errors import Unreachable

Connection = psycopg.Connection[Any]


def test_a_call_is_repeated_whole_after_a_deadlock(database_url: str, connection: Connection) -> None:
    connection.execute("create table pair (id int primary key, n int)")
    connection.execute("insert into pair values (1, 0), (2, 0)")
    database = Database(database_url)
    met = threading.Barrier(2)
    calls: list[tuple[int, int]] = []

    def both(connection: Connection, first: int, second: int) -> None:
        with connection.transaction():
            calls.append((first, second))
            connection.execute("update pair set n = n + 1 where id = %s", [first])
            if len(calls) <= 2:
                met.wait(10)
            connection.execute("update pair set n = n + 1 where id = %s", [second])

    threads = [threading.Thread(target=database.call, args=(both, *pair)) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert connection.execute("select id, n from pair order by id").fetchall() == [(1, 2), (2, 2)]
    assert len(calls) > 2  # the one that was chosen came again
    database.close()


def test_a_connection_that_was_cut_is_replaced_within_the_call(
    database_url: str, connection: Connection
) -> None:
    database = Database(database_url)
    pid = database.call(lambda own: own.info.backend_pid)
    connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
    assert database.call(lambda own: own.execute("select 1").fetchone()) == (1,)
    database.close()


def test_a_database_that_does_not_answer_is_said_to_be_unreachable() -> None:
    with pytest.raises(Unreachable, match="PostgreSQL does not answer"):
        Database("postgresql://127.0.0.1:1/nowhere").call(lambda own: own.execute("select 1"))


def test_an_error_of_the_call_itself_is_not_repeated(database_url: str) -> None:
    calls = []

    def wrong(own: Connection) -> None:
        calls.append(1)
        own.execute("select 1 / 0")

    database = Database(database_url)
    with pytest.raises(psycopg.errors.DivisionByZero):
        database.call(wrong)
    assert len(calls) == 1
    database.close()


def test_threads_share_the_connections_they_are_given(database_url: str) -> None:
    database = Database(database_url, connections=2)
    seen: set[int] = set()

    def work() -> None:
        for _ in range(20):
            seen.add(database.call(lambda own: own.info.backend_pid))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 1 <= len(seen) <= 2
    database.close()
