"""From a template and a context to a request of `submit_tasks`, and the door into a caller's transaction."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import psycopg
from sqlalchemy import Connection as SqlAlchemyConnection
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from tasker.domain.errors import PermanentError, ValueRefused
from tasker.domain.fit import fit_to
from tasker.domain.schemas import context_check
from tasker.domain.templates import MAX_DEADLINE_SECONDS, MAX_PRIORITY, is_limit
from tasker.domain.values import checked_text, encode
from tasker.domain.version import Reference, is_version, parse_reference
from tasker.domain.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tasker.domain.templates import TemplateDefinition
    from tasker.orchestration.stored_schemas import StoredSchemas
    from tasker.settings import Settings


LONGEST_NAME = 255
LONGEST_REASON = 2_000
LONGEST_TAG = 100
MOST_TAGS = 100
LONGEST_DELAY = timedelta(days=36_525)


class Template(Protocol):
    """What `submit` needs of a template object."""

    @property
    def context_type(self) -> Any:
        """The type that contexts are validated to, or None."""

    @property
    def definition(self) -> TemplateDefinition:
        """The checked definition."""


@dataclass(frozen=True)
class TaskRequest:
    """One task to submit. Only `template` is needed; PostgreSQL is asked only for what can be stored.

    template: `"namespace/name"`, `"namespace/name@1.0.0"` or a template object. context: JSON object, or what
    the template's context type takes. idempotency_key: the same key of the same template names the same task.
    priority: from -100 to 100, higher goes first among steps that wait for a place; a step's own is added.
    run_after: a time with offset, or a delay from now. deadline_seconds: what the task may take from the
    time it may start, instead of what its template says. version: as `@1.0.0` in the name. task_id: made
    here, so that the same request sent twice is one task. The rest is kept with the task for people to find
    it by: up to 100 tags of 100 characters, 255 for the key and the names, 2 000 for the reason.
    """

    template: str | Template
    context: Any = None
    version: str | None = None
    idempotency_key: str | None = None
    priority: int = 0
    tags: Sequence[str] = ()
    run_after: datetime | timedelta | None = None
    deadline_seconds: float | None = None
    correlation_id: UUID | str | None = None
    parent_correlation_id: UUID | str | None = None
    initiator: str | None = None
    source_system: str | None = None
    reason: str | None = None
    task_id: UUID = field(default_factory=lambda: new_task_id())  # noqa: PLW0108 - defined below


def new_task_id() -> UUID:
    """A UUID version 7 (RFC 9562): 48 bits of milliseconds, then random, so that new rows lie together."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def request_json(request: TaskRequest, settings: Settings, schemas: StoredSchemas) -> str:
    """The request as SQL takes it.

    Raises ValueRefused, naming the field, for what cannot be stored, and what the template cannot take.
    """
    template = request.template
    reference = referred_to(request)
    context = _context_text(request, settings)
    fields: dict[str, Any] = {
        "id": _uuid(request.task_id, "task_id"),
        "namespace": reference.namespace,
        "name": reference.name,
        "version": reference.version,
        "digest": None if isinstance(template, str) else template.definition.digest,
        "schema": schemas.held_against(reference, context) if isinstance(template, str) else None,
        "priority": _priority(request.priority),
        "tags": _tags(request.tags),
        "initiator": _text(request.initiator, "initiator", LONGEST_NAME),
        "source_system": _text(request.source_system, "source_system", LONGEST_NAME),
        "reason": _text(request.reason, "reason", LONGEST_REASON),
        "correlation_id": _uuid(request.correlation_id, "correlation_id"),
        "parent_correlation_id": _uuid(request.parent_correlation_id, "parent_correlation_id"),
        "idempotency_key": _key(request.idempotency_key),
        "request_digest": "" if request.idempotency_key is None else _digest(reference, context),
        "deadline_ms": _milliseconds(request.deadline_seconds),
        **_run_after(request.run_after),
    }
    given = {key: value for key, value in fields.items() if value is not None}
    return f'{encode(given, limit_bytes=1 << 18, max_depth=4, where="request")[:-1]},"context":{context}}}'


def referred_to(request: TaskRequest) -> Reference:
    """The template that a request names, and the version when it does. Raises ValueRefused."""
    if isinstance(request.template, str):
        return _named(request.template, request.version)
    if not hasattr(type(request.template), "definition"):
        raise ValueRefused(f"template: must be a name or a template, not {shown(request.template)}")
    definition = request.template.definition
    if request.version not in {None, definition.version}:
        raise ValueRefused(
            f"version: {request.version} was asked for, but the template object is {definition.full_name}"
            f"@{definition.version}"
        )
    return Reference(definition.namespace, definition.name, definition.version)


def _named(name: str, version: str | None) -> Reference:
    found = parse_reference(name)
    if version is None or version == found.version:
        return found
    if found.version is not None:
        raise ValueRefused(f"version: {shown(version)} was asked for, but the template is named {found}")
    if not is_version(version):
        raise ValueRefused(f"version: {shown(version)} is not a version such as 1.0.0")
    return found._replace(version=version)


def _context_text(request: TaskRequest, settings: Settings) -> str:
    value = {} if request.context is None else request.context
    template = request.template
    if not isinstance(template, str) and template.context_type is not None:
        fit = fit_to(template.context_type, "context:", from_json=False)
        try:
            value = value if fit is None else fit(value)
        except PermanentError as wrong:
            raise ValueRefused(str(wrong)) from None
    text = encode(
        value, limit_bytes=settings.context_max_bytes, max_depth=settings.value_max_depth, where="context"
    )
    if not text.startswith("{"):
        raise ValueRefused(f"context: must be a JSON object, not {type(value).__name__}; put it under a key")
    if not isinstance(template, str) and template.context_type is None and template.definition.context_schema:
        _schema_check(json.dumps(template.definition.context_schema))(json.loads(text))
    return text


@lru_cache(maxsize=256)
def _schema_check(schema: str) -> Callable[[object], None]:
    return context_check(json.loads(schema))


def _digest(reference: Reference, context: str) -> str:
    canonical = json.dumps(json.loads(context), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{reference.namespace}/{reference.name} {canonical}".encode()).hexdigest()


def _run_after(when: datetime | timedelta | None) -> Mapping[str, Any]:
    if when is None:
        return {}
    if isinstance(when, timedelta) and abs(when) <= LONGEST_DELAY:
        return {"run_after_ms": round(when.total_seconds() * 1000)}
    if isinstance(when, datetime):
        return {"run_after": when}
    raise ValueRefused(
        f"run_after: must be a datetime or a timedelta, {LONGEST_DELAY.days} days at most, not {shown(when)}"
    )


def _milliseconds(deadline_seconds: float | None) -> int | None:
    if deadline_seconds is None:
        return None
    if not is_limit(deadline_seconds, MAX_DEADLINE_SECONDS):
        raise ValueRefused(
            f"deadline_seconds: must be above 0 and at most {MAX_DEADLINE_SECONDS}, not {deadline_seconds!r}"
        )
    return max(1, round(deadline_seconds * 1000))


def _uuid(value: UUID | str | None, where: str) -> str | None:
    if value is None or type(value) is UUID:
        return None if value is None else str(value)
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise ValueRefused(f"{where}: {shown(value)} is not a UUID") from None


def _text(value: str | None, where: str, longest: int) -> str | None:
    return None if value is None else checked_text(value, where, longest)


def _key(value: str | None) -> str | None:
    if value == "":
        raise ValueRefused("idempotency_key: must not be empty; leave it out for a task that is always new")
    return _text(value, "idempotency_key", LONGEST_NAME)


def _priority(value: int) -> int:
    if type(value) is not int or abs(value) > MAX_PRIORITY:
        raise ValueRefused(
            f"priority: must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {shown(value)}"
        )
    return value


def _tags(tags: Sequence[str]) -> list[str]:
    if not tags:
        return []
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ValueRefused(f"tags: must be a list of texts, not {shown(tags)}")
    listed = list(tags)
    if len(listed) > MOST_TAGS:
        raise ValueRefused(f"tags: {len(listed)} are over the limit of {MOST_TAGS}")
    return [checked_text(tag, f"tags[{place}]", LONGEST_TAG) for place, tag in enumerate(listed)]


def own_session(connection: Any) -> Any:
    """The Session of this thread or request for a `scoped_session`; anything else as it is."""
    return connection() if isinstance(connection, scoped_session) else connection


def joined_connection(connection: Any) -> psycopg.Connection[Any]:
    """The psycopg connection behind a caller's Session, SQLAlchemy Connection or psycopg connection.

    Raises ValueRefused for anything else, and for autocommit, where there is no transaction to join.
    """
    if isinstance(connection, Session):
        connection = connection.connection()
    if isinstance(connection, SqlAlchemyConnection):
        if connection.dialect.driver != "psycopg":
            raise ValueRefused(
                f"connection: SQLAlchemy drives {connection.dialect.name}+{connection.dialect.driver}; "
                "Tasker joins transactions of postgresql+psycopg"
            )
        if not connection.in_transaction():
            connection.begin()
        connection = connection.connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise ValueRefused(
            f"connection: {type(connection).__name__} is no SQLAlchemy Session or Connection and no psycopg "
            "connection"
        )
    if connection.autocommit and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        raise ValueRefused(
            "connection: it is in autocommit, so there is no transaction to join; leave it out"
        )
    return connection


@contextmanager
def refusal_undone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """A block on a caller's transaction that takes back only itself when PostgreSQL refuses a part of it."""
    connection.execute("savepoint tasker_submit")
    try:
        yield
    except BaseException:
        if not connection.closed:
            connection.execute("rollback to savepoint tasker_submit")
            connection.execute("release savepoint tasker_submit")
        raise
    connection.execute("release savepoint tasker_submit")


def after_root_commit(session: Any, action: Callable[[list[UUID]], None], tasks: Sequence[UUID]) -> None:
    """Run `action` once when a Session's outermost transaction has committed; never after a rollback.

    It gets all the tasks it was awaited for, also those of a savepoint that was rolled back. Connections tell
    nobody of their commits, so for them nothing happens.
    """
    if not isinstance(session, Session):
        return
    if _KEY not in session.info:
        session.info[_KEY] = _RootCommit(session)
    session.info[_KEY].await_it(session.connection(), action, tasks)


_KEY = "tasker.after_root_commit"


class _RootCommit:
    """What a session's outermost transaction has to end well for.

    `after_commit` alone fires too early: for a savepoint, and for a Session inside an outer transaction of
    its Connection. So the end of the session's root transaction decides, and then the Connection's state.
    The listeners stay with the session: SQLAlchemy cannot remove them while it calls them.
    """

    def __init__(self, session: Session) -> None:
        self._actions: dict[Callable[[list[UUID]], None], list[UUID]] = {}
        self._connection: SqlAlchemyConnection | None = None
        self._committed = False
        event.listen(session, "after_commit", self._on_commit)
        event.listen(session, "after_transaction_end", self._on_end)

    def await_it(
        self, connection: SqlAlchemyConnection, action: Callable[[list[UUID]], None], tasks: Sequence[UUID]
    ) -> None:
        self._connection = connection
        self._actions.setdefault(action, []).extend(tasks)

    def _on_commit(self, _: Session) -> None:
        self._committed = True

    def _on_end(self, _: Session, transaction: SessionTransaction) -> None:
        committed, self._committed = self._committed, False
        if transaction.parent is not None:
            return
        connection, self._connection = self._connection, None
        actions, self._actions = self._actions, {}
        if committed and connection is not None and not connection.in_transaction():
            for action, tasks in actions.items():
                action(tasks)
