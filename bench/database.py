"""Databases for measurements of SQL: a server of their own, and sessions as workers have them.

`Protocol`, the driver of the SQL tests, speaks for them too: tests and measurements make the same calls.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tasker.db.connect import Connector
from tasker.db.migrate import migrate
from tasker.dev.postgres import start_postgres
from tests.sql.protocol import HANDLER, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sql.protocol import Connection

CHAIN = "a > b"
LINEAR = "linear"
"""A template of four steps in a row; those of the others are chains of two."""
PAUSED = "paused"
"""A queue whose steps are held."""
LOST = "lost"
"""A queue with an idle worker, so that whatever is enqueued there was lost on its way."""
EXPECTED_MS = 0.5
"""Low enough for 64 steps to be kept or to share a message."""


@contextmanager
def own_server() -> Iterator[Callable[[str], str]]:
    """Run the embedded PostgreSQL with its default settings; gives the URL of a new, migrated database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasker-bench-")))
        folder.chmod(0o711)  # as root, PostgreSQL runs as another user
        first = stack.enter_context(start_postgres(folder / "servers"))
        yield lambda name: new_database(first, name)


def new_database(server_url: str, name: str) -> str:
    """The URL of a new, migrated database on the server of another one."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    migrate(url)
    return url


@contextmanager
def in_haste(connection: Connection) -> Iterator[None]:
    """Fill a database quickly, on a server with nothing else to do, and leave nothing to be written later."""
    hasty = {"fsync": "off", "max_wal_size": "'8GB'", "autovacuum": "off"}
    for setting, value in hasty.items():
        connection.execute(f"alter system set {setting} = {value}")
    connection.execute("select pg_reload_conf()")
    yield
    connection.execute("checkpoint")
    os.sync()
    for setting in hasty:
        connection.execute(f"alter system reset {setting}")
    connection.execute("select pg_reload_conf()")


def session(url: str) -> Protocol:
    """A session with the settings of the engine's own connections: every statement is prepared at once."""
    return Protocol(Connector(url, name="tasker-bench", statement_timeout_seconds=None)())


def prepare(own: Protocol) -> None:
    """Store the templates that calls use, with queues of which one is paused and one has an idle worker."""
    own.register(CHAIN, name="chain")
    own.register("a > b > c > d", name=LINEAR)
    own.register(CHAIN, name="impatient", start_within_seconds=3600)
    own.register(CHAIN, name=PAUSED, queue=PAUSED)
    own.register(CHAIN, name=LOST, queue=LOST)
    own.pause_queue(PAUSED)
    idle = own.register_worker(queues=(LOST,))
    own.connection.execute("update tasker.workers set free = 1 where id = %s", [idle])
    own.expect(**{HANDLER: EXPECTED_MS})
