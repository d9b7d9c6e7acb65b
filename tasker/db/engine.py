"""Connections: one small pool per process, and the one place where calls are retried."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from tasker.db.migrate import libpq_url
from tasker.domain.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.db.functions import Connection

P = ParamSpec("P")
T = TypeVar("T")

RETRYABLE = ("40P01", "40001", "55P03")
"""Deadlock, serialisation failure, lock not available: normal, and gone when the whole call is repeated."""
TRIES = 6
POOL_WAIT_SECONDS = 30


class Database:
    """A pool of autocommit connections to one database; safe to share by threads and across a fork.

    Every function of the schema is one statement, so one call is one transaction and one round trip.
    """

    def __init__(self, url: str, *, connections: int = 4, name: str = "tasker") -> None:
        self.url = libpq_url(url)
        self._name = name
        self._connections = connections
        self._pool: QueuePool | None = None
        self._pid = 0

    def call(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of `db.functions` or `db.queries`.

        Repeated whole after a deadlock or a lost connection, which every one of them allows. Raises
        Unreachable when PostgreSQL does not answer.
        """
        for attempt in range(1, TRIES + 1):
            connection = self._connect()
            try:
                return function(connection.driver_connection, *args, **kwargs)
            except psycopg.OperationalError as error:
                lost = connection.driver_connection is None or connection.driver_connection.closed
                if lost:
                    connection.invalidate()
                if attempt == TRIES or not (lost or error.sqlstate in RETRYABLE):
                    raise _unreachable(error) if lost else error from error
            finally:
                connection.close()
            time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 - jitter
        raise AssertionError  # the last attempt returned or raised

    def close(self) -> None:
        """Close this process's idle connections; a later call opens new ones."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.dispose()
        self._pool = None

    def _connect(self) -> Any:
        if self._pid != os.getpid():
            # a pool inherited by fork is dropped, never closed: its sockets belong to the parent
            self._pid = os.getpid()
            self._pool = None
        if self._pool is None:
            self._pool = QueuePool(
                self._open,
                pool_size=self._connections,
                max_overflow=0,
                timeout=POOL_WAIT_SECONDS,
                reset_on_return=None,
            )
        try:
            return self._pool.connect()
        except psycopg.OperationalError as error:
            raise _unreachable(error) from error
        except PoolTimeout as error:
            raise Unreachable(
                f"all {self._connections} database connections of this process were busy for "
                f"{POOL_WAIT_SECONDS} s"
            ) from error

    def _open(self) -> Any:
        return psycopg.connect(
            self.url, autocommit=True, prepare_threshold=0, application_name=self._name, connect_timeout=5
        )


def _unreachable(error: psycopg.Error) -> Unreachable:
    return Unreachable(f"PostgreSQL does not answer: {str(error).strip()}")
