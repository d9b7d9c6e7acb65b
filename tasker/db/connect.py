"""How our own connections are opened: what anything on them may take, with a pooler between or without."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import _WaitTimeout

from tasker.domain.errors import SettingsError

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

SCHEME = re.compile(r"^postgres(ql)?(\+\w+)?://")

WATCHED_CONNECTION = {
    "connect_timeout": 4,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""libpq parameters: a connection that a network swallowed is noticed within half a minute."""

LOCK_SECONDS = 10
"""Ordinary waits for a lock take milliseconds; the call that meets a longer one is repeated."""
IDLE_IN_TRANSACTION_SECONDS = 30
"""No transaction of ours waits for anything but its own statements."""
REPLY_GRACE_SECONDS = 2.0
"""Beyond the limit of a statement, after which the server itself should have answered."""

REFUSED_BY_POOLER = "unsupported startup parameter"


class LimitedConnection(psycopg.Connection[Any]):
    """Gives up on a reply that is overdue, and is closed then.

    The server ends statements that take too long, but nobody else notices a reply that a proxy between has
    swallowed, or a server that stands still.
    """

    reply_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's; raises OperationalError after `reply_seconds`."""
        try:
            return super().wait(gen, interval, self.reply_seconds if timeout is None else timeout)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no reply within {self.reply_seconds:g} s") from None


class Connector:
    """Opens the connections of one pool: autocommit, limited, named.

    What the URL says for itself (`options`, `connect_timeout`, …) holds. A pooler such as PgBouncer is
    noticed by itself: it may refuse our limits at the start, and gives each transaction another server
    session, which has not prepared our statements.
    """

    def __init__(self, url: str, *, name: str, statement_timeout_seconds: float | None) -> None:
        """Nothing is opened yet. Raises SettingsError for what is no PostgreSQL URL."""
        given = parameters_of(url)
        own_options = given.pop("options", None) or os.environ.get("PGOPTIONS", "")
        self._parameters = {"application_name": name, **WATCHED_CONNECTION, **given}
        self._limits = _limits(statement_timeout_seconds)
        self._own_options = own_options
        self._statement_seconds = statement_timeout_seconds

    def __call__(self) -> LimitedConnection:
        """A new connection. Raises psycopg.OperationalError."""
        limits = self._limits
        try:
            opened = self._open(f"{limits} {self._own_options}")
        except psycopg.OperationalError as error:
            if REFUSED_BY_POOLER not in str(error) or not limits:
                raise
            opened = self._open(self._own_options)
            self._limits = ""
        try:
            if not _is_direct(opened):
                opened.prepare_threshold = None
        except BaseException:
            opened.close()
            raise
        return opened

    def _open(self, options: str) -> LimitedConnection:
        opened = LimitedConnection.connect(
            autocommit=True, prepare_threshold=0, options=options.strip(), **self._parameters
        )
        if self._statement_seconds is not None:
            opened.reply_seconds = self._statement_seconds + REPLY_GRACE_SECONDS
        return opened


def libpq_url(url: str) -> str:
    """The URL as libpq reads it, from a SQLAlchemy one too (`postgresql+psycopg://`, `postgres://`)."""
    return SCHEME.sub("postgresql://", url)


def parameters_of(url: str) -> dict[str, Any]:
    """What a URL says, by libpq's names. Raises SettingsError for what is no PostgreSQL URL."""
    try:
        return conninfo_to_dict(libpq_url(url))
    except psycopg.ProgrammingError:
        # libpq's own words would quote the URL, password included
        raise SettingsError(
            "the database URL is none that libpq reads; one is postgresql://user:password@host/name, "
            "with the special characters of its password percent-encoded"
        ) from None


def _limits(statement_seconds: float | None) -> str:
    limits = {
        "statement_timeout": statement_seconds or 0,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS,
    }
    return " ".join(f"-c {name}={round(1000 * seconds)}" for name, seconds in limits.items())


def _is_direct(connection: LimitedConnection) -> bool:
    """A pooler invents the process id that it tells its clients at the start."""
    row = connection.execute("select pg_backend_pid()", prepare=False).fetchone()
    return row == (connection.info.backend_pid,)
