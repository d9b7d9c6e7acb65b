"""Calls that meet a deadlock, a restart or a wrong address."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from tasker.db import connect
from tasker.db.engine import Database
from tasker.domain.errors import StepTimeout, Unreachable

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


def test_a_connection_whose_first_question_fails_is_closed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[psycopg.Connection[Any]] = []

    def crash(connection: psycopg.Connection[Any]) -> bool:
        opened.append(connection)
        raise psycopg.OperationalError("the server has crashed since")

    monkeypatch.setattr(connect, "_is_direct", crash)
    with pytest.raises(psycopg.OperationalError):
        connect.Connector(database_url, name="test", statement_timeout_seconds=1)()
    assert [connection.closed for connection in opened] == [True]


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


def shown(database: Database, setting: str) -> object:
    row = database.call(lambda own: own.execute(f"show {setting}".encode()).fetchone())
    return row and row[0]


def test_our_connections_are_limited(database_url: str) -> None:
    database = Database(database_url)
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    assert [shown(database, limit) for limit in limits] == ["30s", "10s", "30s"]
    database.close()
    unlimited = Database(database_url, statement_timeout_seconds=None)
    assert shown(unlimited, "statement_timeout") == "0"
    unlimited.close()


def test_what_the_url_says_for_itself_holds(database_url: str) -> None:
    options = "options=-c%20search_path%3Delsewhere%20-c%20lock_timeout%3D7s"
    separator = "&" if "?" in database_url else "?"
    database = Database(f"{database_url}{separator}{options}&application_name=mine")
    settings = ("search_path", "lock_timeout", "statement_timeout", "application_name")
    assert [shown(database, setting) for setting in settings] == ["elsewhere", "7s", "30s", "mine"]
    database.close()


def test_a_statement_that_hangs_is_given_up(database_url: str) -> None:
    database = Database(database_url, statement_timeout_seconds=0.05)
    with pytest.raises(Unreachable, match="statement timeout"):
        database.call(lambda own: own.execute("select pg_sleep(60)"))
    database.close()


def test_a_lock_that_is_held_too_long_is_asked_for_again(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "LOCK_SECONDS", 0.05)
    connection.execute("create table held (id int)")
    connection.execute("begin")
    connection.execute("lock table held")
    database = Database(database_url)
    calls: list[int] = []

    def insert(own: Connection) -> None:
        calls.append(1)
        if len(calls) == 3:
            connection.execute("commit")
        own.execute("insert into held values (1)")

    database.call(insert)
    assert len(calls) == 3
    assert connection.execute("select count(*) from held").fetchone() == (1,)
    database.close()


def test_a_call_interrupted_before_its_answer_leaves_that_to_nobody(database_url: str) -> None:
    database = Database(database_url, connections=1)

    def interrupted(own: Connection) -> None:
        own.pgconn.send_query(b"select 'of the interrupted call'")
        raise StepTimeout

    with pytest.raises(StepTimeout):
        database.call(interrupted)
    assert database.call(lambda own: own.execute("select 'mine'").fetchone()) == ("mine",)
    database.close()
