"""Connections: one small pool per process, and the one place where calls are retried."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from tasker.db.connect import Connector, libpq_url
from tasker.domain.errors import Unreachable
from tasker.domain.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.db.functions import Connection

P = ParamSpec("P")
T = TypeVar("T")

RETRYABLE = ("40P01", "40001", "55P03")
"""Deadlock, serialisation failure, lock not available: normal, and gone when the whole call is repeated."""
TRIES = 6
POOL_WAIT_SECONDS = 30
STATEMENT_TIMEOUT_SECONDS = 30.0
"""The default of the setting: a thousand times what a call of the hot path takes."""


class Database:
    """A pool of autocommit connections to one database; safe to share by threads and across a fork.

    Every function of the schema is one statement, so one call is one transaction and one round trip.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 4,
        name: str = "tasker",
        statement_timeout_seconds: float | None = STATEMENT_TIMEOUT_SECONDS,
    ) -> None:
        """Nothing is opened yet. Raises SettingsError for what is no PostgreSQL URL."""
        self.url = libpq_url(url)
        self._connections = connections
        self._open: Any = Connector(url, name=name, statement_timeout_seconds=statement_timeout_seconds)
        self._pool: QueuePool | None = None
        self._lock = threading.Lock()
        forget_after_fork(self)

    def call(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of `db.functions` or `db.queries`.

        Repeated whole after a deadlock or a lost connection, which every one of them allows. Raises
        Unreachable when PostgreSQL does not answer, or for now cannot do it (out of time, memory or disk,
        read-only after a failover).
        """
        for attempt in range(1, TRIES + 1):
            connection = self._connect()
            try:
                return function(connection.driver_connection, *args, **kwargs)
            except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
                lost = connection.driver_connection is None or connection.driver_connection.closed
                if lost:
                    connection.invalidate()
                if attempt == TRIES or not (lost or error.sqlstate in RETRYABLE):
                    raise _unreachable(error) from error
            except BaseException:
                # told to stop between question and answer: the answer would be the next caller's
                own = connection.driver_connection
                if own is not None and own.info.transaction_status != TransactionStatus.IDLE:
                    connection.invalidate()
                raise
            finally:
                connection.close()
            time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 - jitter
        raise AssertionError  # the last attempt returned or raised

    def close(self) -> None:
        """Close this process's idle connections; a later call opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.dispose()

    def after_fork(self) -> None:
        """In a child: the inherited pool is dropped, never closed, since its sockets are the parent's."""
        self._pool = None
        self._lock = threading.Lock()

    def _connect(self) -> Any:
        try:
            return self._opened_pool().connect()
        except psycopg.OperationalError as error:
            raise _unreachable(error) from error
        except PoolTimeout as error:
            raise Unreachable(
                f"all {self._connections} database connections of this process were busy for "
                f"{POOL_WAIT_SECONDS} s"
            ) from error

    def _opened_pool(self) -> QueuePool:
        with self._lock:
            if self._pool is None:
                self._pool = QueuePool(
                    self._open,
                    pool_size=self._connections,
                    max_overflow=0,
                    timeout=POOL_WAIT_SECONDS,
                    reset_on_return=None,
                )
            return self._pool


def _unreachable(error: psycopg.Error) -> Unreachable:
    return Unreachable(f"PostgreSQL does not answer: {str(error).strip()}")
