"""Bringing a database up to this build: tables by Alembic revision, functions whole when they changed."""

from __future__ import annotations

import io
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeAlias, TypeVar

import psycopg
from psycopg import IsolationLevel

from tasker.db.connect import WATCHED_CONNECTION, parameters_of
from tasker.db.revisions import HEAD, HISTORY
from tasker.db.scripts import Applied, Release, Scripts
from tasker.domain.errors import SchemaBehind, SettingsError, TaskerError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

Connection: TypeAlias = psycopg.Connection[Any]

LOCK_KEY = 0x7461736B6572
"""The advisory lock under which databases are migrated: "tasker" in ASCII."""

T = TypeVar("T")

TRIES = 6
"""Of a migration that deadlocks with running workers."""
LOCK_SECONDS = 5
"""How long a migration waits for a lock, and so how long it may hold up whoever works meanwhile."""

OLDEST_SERVER = 140000
NAMES_SHOWN = 3
REVISIONS = Path(__file__).with_name("revisions")


class Status(NamedTuple):
    """What a database has (`revision`; None for no schema at all) and what it lacks.

    `broken` are functions that processes running now call in vain once the pending is applied. `release` is
    that of a newer Tasker that made the database and serves this one; nothing is pending then.
    """

    revision: str | None
    pending: tuple[str, ...]
    broken: tuple[str, ...] = ()
    release: str | None = None

    @property
    def current(self) -> bool:
        """Whether this build can run on the database as it is."""
        return not self.pending


class _Found(NamedTuple):
    revision: str | None
    applied: dict[str, Applied]
    release: Release | None


def migrate(url: str, *, scripts: Scripts | None = None) -> list[str]:
    """Bring the database up to this build, in one transaction; returns what was applied, [] when current.

    One that a newer release made and that serves this one is left as it is. Repeats safely, also from several
    processes at once: they take turns. Raises SchemaBehind when an unreleased build with other tables made
    it, SettingsError when the user may not change it, Unreachable when it does not answer, or when somebody
    holds a lock on what is to be changed.
    """
    wanted = scripts or Scripts.read()
    with _refusal_explained():
        return again_after_deadlock(lambda: _migrate(url, wanted))


def again_after_deadlock(change: Callable[[], T]) -> T:
    """Run `change`, one whole transaction, and again when PostgreSQL ended it for a deadlock.

    A change of several tables meets the calls of running workers, which use tables in orders of their own:
    no order of its locks is safe from all of theirs.
    """
    import sqlalchemy as sa

    for attempt in range(1, TRIES + 1):
        try:
            return change()
        except (psycopg.errors.DeadlockDetected, sa.exc.OperationalError) as error:
            cause = error.orig if isinstance(error, sa.exc.OperationalError) else error
            if attempt == TRIES or not isinstance(cause, psycopg.errors.DeadlockDetected):
                raise
    raise AssertionError  # the last try returned or raised


def _migrate(url: str, wanted: Scripts) -> list[str]:
    with _transaction(url) as (connection, raw):
        raw.execute("select pg_advisory_xact_lock(%s)", [LOCK_KEY])
        # whoever waits for a table keeps everybody waiting who comes after
        raw.execute("select set_config('lock_timeout', %s, true)", [f"{round(1000 * LOCK_SECONDS)}ms"])
        found = _found(raw)
        pending = _pending(found, wanted)
        if pending and found.revision != HEAD:
            # `create schema if not exists` wants the right to create one even where a DBA has done it.
            if not _exists(raw, "to_regnamespace('tasker')"):
                raw.execute("create schema tasker")
            _upgrade(wanted, connection=connection)
        if pending:
            raw.execute(wanted.functions_script(found.applied).encode())
        return list(pending)


def status(url: str, *, scripts: Scripts | None = None) -> Status:
    """What `migrate` would do. Reads only; raises as `migrate` does."""
    with _connect(url) as connection:
        found = _found(connection)
    wanted = scripts or Scripts.read()
    if _is_ahead(found, wanted):
        return Status(found.revision, (), release=found.release and found.release.version)
    return Status(found.revision, _pending(found, wanted), wanted.broken_functions(found.applied))


def require_current(url: str) -> None:
    """Raises SchemaBehind, naming the command, unless this build can run on the database.

    It can on one that a newer release made, as long as that one serves it; TaskerError when it does not.
    """
    found = status(url)
    if found.revision is None:
        raise SchemaBehind("the database has no Tasker schema; run `tasker db migrate`")
    if not found.current:
        raise SchemaBehind(
            f"the database is behind this build ({_shortened(found.pending)}); run `tasker db migrate`"
        )


def sql(url: str | None = None, *, scripts: Scripts | None = None) -> str:
    """The script that `migrate` would run, as one transaction, for somebody else to run.

    It is for the database of `url` as it is now; without `url`, for an empty one.
    """
    wanted = scripts or Scripts.read()
    found = _Found(None, {}, None)
    if url is not None:
        with _connect(url) as connection:
            found = _found(connection)
    if not _pending(found, wanted):
        return "-- Nothing to do: the database is current.\n"
    parts = ["begin;", f"select pg_advisory_xact_lock({LOCK_KEY});"]
    if found.revision != HEAD:
        parts += ["create schema if not exists tasker;", _upgrade(wanted, since=found.revision)]
    return "\n\n".join((*parts, wanted.functions_script(found.applied), "commit;\n"))


def _is_ahead(found: _Found, wanted: Scripts) -> bool:
    """Whether a newer release made the database. Raises TaskerError when it no longer serves this build."""
    version = wanted.release.version
    if found.release is None or not found.release.is_newer_than(version):
        return False
    if not found.release.is_for(version):
        raise TaskerError(
            f"Tasker {found.release.version} made this database, and it serves releases since "
            f"{found.release.serves}; this one is {version}: update it"
        )
    return True


def _pending(found: _Found, wanted: Scripts) -> tuple[str, ...]:
    if _is_ahead(found, wanted):
        return ()
    if found.revision not in (None, *HISTORY):
        raise TaskerError(f"a newer Tasker made this database (revision {found.revision}); update this one")
    changed = wanted.changed_schema(found.applied) or (() if found.release else ("tasker.release",))
    if found.revision == HEAD and changed:
        raise SchemaBehind(
            f"an unreleased build made this database with other tables ({_shortened(changed)}); make it "
            "anew: remove the folder .tasker of `tasker dev`; elsewhere `drop schema tasker cascade`, migrate"
        )
    revisions = () if found.revision == HEAD else (f"revision {HEAD}",)
    return (
        *revisions,
        *(file.name for file in wanted.changed_functions(found.applied)),
        *(f"{name} (dropped)" for name in wanted.vanished_functions(found.applied)),
    )


def _found(connection: Connection) -> _Found:
    if not _exists(connection, "to_regclass('tasker.sql_files')"):
        return _Found(None, {}, None)
    revision = connection.execute("select version_num from tasker.alembic_version").fetchone()
    files = connection.execute("select name, digest, header from tasker.sql_files").fetchall()
    applied = {name: Applied(digest, header) for name, digest, header in files}
    release = None
    if _exists(connection, "to_regclass('tasker.release')"):
        release = connection.execute("select version, serves from tasker.release").fetchone()
    return _Found(revision and revision[0], applied, release and Release(*release))


def _exists(connection: Connection, lookup: LiteralString) -> bool:
    row = connection.execute(f"select {lookup} is not null").fetchone()
    return bool(row and row[0])


def _shortened(names: tuple[str, ...]) -> str:
    shown = names[:NAMES_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _upgrade(wanted: Scripts, *, connection: sa.Connection | None = None, since: str | None = None) -> str:
    """Run the revisions on `connection`; without one, return their SQL for a database at `since`."""
    from alembic import command
    from alembic.config import Config

    printed = io.StringIO()
    attributes = {"connection": connection, "schema_script": wanted.schema_script()}
    config = Config(output_buffer=printed, attributes=attributes)
    config.set_main_option("script_location", str(REVISIONS).replace("%", "%%"))
    target = HEAD if connection is not None else f"{since or 'base'}:{HEAD}"
    command.upgrade(config, target, sql=connection is None)
    return printed.getvalue()


@contextmanager
def _transaction(url: str) -> Iterator[tuple[sa.Connection, Connection]]:
    """One transaction, as Alembic's connection and as the driver's below it."""
    import sqlalchemy as sa

    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=partial(_connect, url),
        poolclass=sa.NullPool,
        isolation_level="READ COMMITTED",
    )
    with engine.begin() as connection:
        raw = connection.connection.driver_connection
        if not isinstance(raw, psycopg.Connection):
            raise TypeError("SQLAlchemy's psycopg dialect hands out psycopg connections")
        yield connection, raw


@contextmanager
def _refusal_explained() -> Iterator[None]:
    import sqlalchemy as sa

    try:
        yield
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            remedy = "let the database's owner run what `tasker db sql` prints"
            raise SettingsError(f"{cause}; {remedy}") from error
        if isinstance(cause, psycopg.errors.LockNotAvailable):
            raise Unreachable(
                f"nothing was changed: another session has held a lock for {LOCK_SECONDS} s ({cause}); run "
                "it again, or end that session"
            ) from error
        raise


def _connect(url: str) -> Connection:
    try:
        # never prepared: behind a pooler the next transaction has another session
        connection = psycopg.connect(
            prepare_threshold=None,
            **{"application_name": "tasker db", **WATCHED_CONNECTION, **parameters_of(url)},
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"PostgreSQL does not answer: {str(error).strip()}") from error
    if connection.info.server_version < OLDEST_SERVER:
        connection.close()
        raise SettingsError(
            f"PostgreSQL 14 or newer is needed; this one is {connection.info.server_version // 10000}"
        )
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    return connection
