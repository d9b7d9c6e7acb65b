"""The transaction of a transactional step: the handler writes in it, and the step's completion ends it."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, get_origin

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tasker.db import functions
from tasker.db.connect import REPLY_GRACE_SECONDS, WATCHED_CONNECTION, LimitedConnection, parameters_of
from tasker.domain.errors import TemplateError, TransactionEnded, Unreachable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tasker.domain.replies import Finished

CANCEL_SECONDS = 2.0
ENDS_TRANSACTION = re.compile(
    r"\s*(commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b",
    re.IGNORECASE,
)
"""A first word that would part the handler's writes from its step's completion."""
BEGIN = """
    select pg_current_xact_id()::text, set_config('statement_timeout', '0', true),
        set_config('idle_in_transaction_session_timeout', '0', true)
"""
"""Limits that a role has for Tasker's sake are not the handler's: its step has limits of its own."""
KINDS: tuple[type, ...] = (psycopg.Connection, Connection, Session)
"""What a handler's `connection` may be."""


def connection_kind(declared: Any) -> type:
    """The kind of connection that an annotation asks for, psycopg's for Any. Raises TemplateError."""
    kind = get_origin(declared) or declared
    if kind is Any:
        return psycopg.Connection
    if not isinstance(kind, type) or not issubclass(kind, KINDS):
        raise TemplateError(
            f'"connection" is annotated {declared}; it can be a psycopg.Connection, or a Connection or '
            "Session of SQLAlchemy"
        )
    return kind


class CommitUnknown(Unreachable):
    """The answer to a commit was lost; release_steps under the step's claim tells whether it took place."""


class HandlersCursor(psycopg.Cursor[Any]):
    """Refuses statements that end a transaction which is not its user's to end."""

    def execute(self, query: Any, *arguments: Any, **keywords: Any) -> Self:
        """As psycopg's. Raises TransactionEnded."""
        connection: Any = self.connection
        if connection.guarded:
            text = query if isinstance(query, str | bytes) else query.as_string(self)
            words = text.decode(errors="replace") if isinstance(text, bytes) else text
            if ENDS_TRANSACTION.match(words):
                raise TransactionEnded(
                    "a transactional step must not end its transaction: return to commit, raise to roll back"
                )
        return super().execute(query, *arguments, **keywords)


class HandlersConnection(LimitedConnection):
    """A connection whose transaction is not its user's to end; savepoints are."""

    guarded = False

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.cursor_factory = HandlersCursor

    def commit(self) -> None:
        """Refused while guarded: the step's completion commits."""
        if self.guarded:
            raise TransactionEnded("a transactional step must not commit: its completion does; just return")
        super().commit()

    def rollback(self) -> None:
        """Refused while guarded: an exception rolls back."""
        if self.guarded:
            raise TransactionEnded("a transactional step must not roll back: raise an exception instead")
        super().rollback()


class StepTransaction:
    """One attempt's transaction. `connection` is what the handler gets; leaving the block rolls back."""

    def __init__(self, given: Any, kind: type, reply_seconds: float) -> None:
        """On a fresh connection of psycopg or SQLAlchemy. Raises psycopg.OperationalError."""
        own: Any = given.connection.driver_connection if isinstance(given, Connection) else given
        self.connection: Any = kind(given) if issubclass(kind, Session) else given
        self._given = given
        self._own: HandlersConnection = own
        self._reply_seconds = own.reply_seconds = reply_seconds
        own.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        ((self._id, *_),) = own.execute(BEGIN).fetchall()
        own.guarded = True
        own.reply_seconds = None  # how long the handler's statements take is for the limits of its step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        own = self._own
        own.guarded = False
        with suppress(psycopg.Error):  # what ended the block says more
            if own.info.transaction_status == TransactionStatus.ACTIVE:  # told to stop in a statement
                own.cancel_safe(timeout=CANCEL_SECONDS)
        self._given.close()

    def finish(self, outcome: str, *, moves: bool) -> Finished:
        """Record the completion (JSON) as the last statement, and commit.

        Raises AttemptEnded, TransactionEnded, what a connection raises that was lost before the commit, and
        what the commit itself finds wrong, as a deferred constraint: nothing is written then. Raises
        CommitUnknown when the commit is not answered.
        """
        if isinstance(self.connection, Session):
            self.connection.flush()
        own = self._own
        own.guarded = False
        own.reply_seconds = self._reply_seconds
        reply = functions.finish_transaction(own, outcome, self._id, moves=moves)
        try:
            own.commit()
        except psycopg.OperationalError as error:
            if own.closed:
                raise CommitUnknown(f"the connection was lost: {str(error).strip()}") from error
            raise
        return reply


class Transactions:
    """Opens the transactions of this process's steps, each READ COMMITTED on a connection of its own."""

    def __init__(self, url: str, statement_timeout_seconds: float) -> None:
        self._url = url
        self._reply_seconds = statement_timeout_seconds + REPLY_GRACE_SECONDS

    def begin(self, kind: type) -> StepTransaction:
        """A transaction for one attempt. `kind` is one of KINDS or a class derived from one.

        Raises Unreachable; nothing has happened then.
        """
        given: HandlersConnection | Connection | None = None
        try:
            given = self._connect() if issubclass(kind, psycopg.Connection) else self._engine.connect()
            return StepTransaction(given, kind, self._reply_seconds)
        except (psycopg.OperationalError, OperationalError) as error:
            if given is not None:
                given.close()
            raise Unreachable(f"PostgreSQL does not answer: {str(error).strip()}") from error

    def _connect(self) -> HandlersConnection:
        # its statements are the user's, so no limit of ours holds; prepared ones would outlive it in a pooler
        parameters = {"application_name": "tasker step", **WATCHED_CONNECTION, **parameters_of(self._url)}
        return HandlersConnection.connect(prepare_threshold=None, **parameters)

    @cached_property
    def _engine(self) -> Engine:
        return create_engine(
            "postgresql+psycopg://", creator=self._connect, poolclass=NullPool, pool_reset_on_return=None
        )
