"""One command brings any database up to this build, whoever else runs it at the same time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import tasker
from tasker.db.connect import libpq_url
from tasker.db.migrate import LOCK_KEY, REVISIONS, again_after_deadlock, migrate, require_current, sql, status
from tasker.db.revisions import HEAD, HISTORY
from tasker.db.scripts import Release, Scripts
from tasker.domain.errors import SchemaBehind, SettingsError, TaskerError, Unreachable

Connection: TypeAlias = psycopg.Connection[Any]

CHECKOUT = Path(tasker.__file__).parents[1]

TABLE = "create table tasker.things (id integer primary key, name text not null default 'none');\n"
ANSWER = """\
-- Calls a function that comes later.
create or replace function tasker.answer() returns integer
language sql
as $$ select tasker.base() + 2 $$;
"""
BASE = """\
create or replace function tasker.base() returns integer
language sql
as $$ select 40 $$;
"""

CATALOG = {
    "columns": """
        select table_name, ordinal_position, column_name, data_type, is_nullable, column_default,
            collation_name, is_identity
        from information_schema.columns where table_schema = 'tasker'""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = 'tasker'::regnamespace""",
    "indexes": "select indexname, indexdef from pg_indexes where schemaname = 'tasker'",
    "functions": """
        select oid::regprocedure::text, pg_get_functiondef(oid)
        from pg_proc where pronamespace = 'tasker'::regnamespace""",
    "options": """
        select relname, relkind::text, reloptions, obj_description(oid, 'pg_class')
        from pg_class where relnamespace = 'tasker'::regnamespace""",
    "triggers": """
        select t.tgname, pg_get_triggerdef(t.oid)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'tasker'::regnamespace and not t.tgisinternal""",
    "files": "select name, digest, header from tasker.sql_files",
    "revision": "select version_num from tasker.alembic_version",
    "release": "select version, serves from tasker.release",
}


class Build:
    """A small set of SQL files in a folder, to be changed as a newer build would have them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in ("schema", "functions"):
            (folder / kind).mkdir()
        self.write("schema/010_things.sql", TABLE)
        self.write("functions/answer.sql", ANSWER)
        self.write("functions/base.sql", BASE)

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()

    @property
    def scripts(self) -> Scripts:
        return Scripts.read(self._folder)

    def released(self, version: str, *, serves: str) -> Scripts:
        """The files as a release of that version has them."""
        return self.scripts._replace(release=Release(version, serves))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


@pytest.fixture
def url(empty_database_url: str) -> str:
    return empty_database_url


@pytest.fixture
def database(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def catalog(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {
            what: sorted(connection.execute(query).fetchall(), key=str) for what, query in CATALOG.items()
        }


def answer(database: Connection) -> object:
    row = database.execute("select tasker.answer()").fetchone()
    return row and row[0]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


# --- this build -----------------------------------------------------------------------------------


def test_an_empty_database_becomes_current_and_a_second_run_applies_nothing(url: str) -> None:
    before = status(url)
    assert before.revision is None
    assert before.pending[0] == f"revision {HEAD}"
    assert migrate(url) == list(before.pending)
    after = status(url)
    assert after.current
    assert after.revision == HEAD
    require_current(url)
    made = catalog(url)
    assert migrate(url) == []
    assert catalog(url) == made


def test_the_functions_of_the_database_are_those_of_the_files(url: str, database: Connection) -> None:
    migrate(url)
    names = "select proname from pg_proc where pronamespace = 'tasker'::regnamespace"
    found = sorted(name for (name,) in database.execute(names))
    assert found == [Path(file.name).stem for file in Scripts.read().functions]


def test_the_list_of_revisions_is_alembics() -> None:
    config = Config()
    config.set_main_option("script_location", str(REVISIONS))
    walked = ScriptDirectory.from_config(config).walk_revisions()
    assert [revision.revision for revision in walked] == list(reversed(HISTORY))


def test_the_printed_script_makes_the_same_database_as_migrate(databases: Any) -> None:
    with databases.make() as migrated, databases.make() as scripted:
        migrate(migrated)
        with psycopg.connect(scripted, autocommit=True) as connection:
            connection.execute(sql().encode())
        assert catalog(scripted) == catalog(migrated)
        assert migrate(scripted) == []


def test_two_processes_at_once_take_turns_and_one_does_the_work(url: str, database: Connection) -> None:
    script = "import sys; from tasker.db.migrate import migrate; print(len(migrate(sys.argv[1])))"
    waiting = """
        select count(*) from pg_locks
        where locktype = 'advisory' and not granted
          and database = (select oid from pg_database where datname = current_database())"""
    database.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
    processes = [
        subprocess.Popen([sys.executable, "-c", script, url], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    eventually(lambda: database.execute(waiting).fetchone() == (2,))
    database.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    applied = sorted(int(count) for count in printed)
    assert applied[0] == 0
    assert applied[1] > 1
    assert status(url).current


def test_a_program_refuses_a_database_that_is_not_current_and_names_the_command(
    url: str, database: Connection
) -> None:
    with pytest.raises(SchemaBehind, match="has no Tasker schema; run `tasker db migrate`"):
        require_current(url)
    migrate(url)
    database.execute("update tasker.sql_files set digest = 'older' where name = 'functions/clock.sql'")
    with pytest.raises(SchemaBehind, match=r"functions/clock\.sql\); run `tasker db migrate`"):
        require_current(url)


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(Unreachable) as refused:
        status("postgresql://someone:hidden@/nothing?host=/nowhere")
    assert "/nowhere" in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_urls_of_libpq_and_of_sqlalchemy_mean_the_same(scheme: str) -> None:
    assert (
        libpq_url(f"{scheme}://user@host/name?sslmode=require")
        == "postgresql://user@host/name?sslmode=require"
    )


# --- a changing build -----------------------------------------------------------------------------


def test_functions_may_call_each_other_in_any_order(url: str, build: Build, database: Connection) -> None:
    assert migrate(url, scripts=build.scripts) == [
        f"revision {HEAD}",
        "functions/answer.sql",
        "functions/base.sql",
    ]
    assert answer(database) == 42


def test_a_changed_body_is_pending_and_replaced_in_place(
    url: str, build: Build, database: Connection
) -> None:
    migrate(url, scripts=build.scripts)
    identity = "select 'tasker.base'::regproc::oid"
    before = database.execute(identity).fetchone()
    build.write("functions/base.sql", BASE.replace("40", "50"))
    assert status(url, scripts=build.scripts).pending == ("functions/base.sql",)
    assert answer(database) == 42
    assert migrate(url, scripts=build.scripts) == ["functions/base.sql"]
    assert answer(database) == 52
    assert database.execute(identity).fetchone() == before, "running workers keep calling the same function"
    assert status(url, scripts=build.scripts).current


@pytest.mark.parametrize(
    "changed", ["base() returns bigint", "base(p_more integer default 0) returns integer"]
)
def test_a_changed_result_or_argument_replaces_the_function_whole(
    url: str, build: Build, database: Connection, changed: str
) -> None:
    migrate(url, scripts=build.scripts)
    build.write("functions/base.sql", BASE.replace("base() returns integer", changed))
    build.write("functions/answer.sql", ANSWER.replace("tasker.base()", "tasker.base()::integer"))
    assert migrate(url, scripts=build.scripts) == ["functions/answer.sql", "functions/base.sql"]
    assert answer(database) == 42
    alone = "select count(*) from pg_proc where proname = 'base' and pronamespace = 'tasker'::regnamespace"
    assert database.execute(alone).fetchone() == (1,)


def test_a_function_without_a_file_is_dropped(url: str, build: Build, database: Connection) -> None:
    migrate(url, scripts=build.scripts)
    build.remove("functions/answer.sql")
    assert migrate(url, scripts=build.scripts) == ["functions/answer.sql (dropped)"]
    assert database.execute("select to_regproc('tasker.answer')").fetchone() == (None,)
    assert status(url, scripts=build.scripts).current


def test_one_broken_file_leaves_the_database_as_it_was(url: str, build: Build, database: Connection) -> None:
    migrate(url, scripts=build.scripts)
    before = catalog(url)
    build.write("functions/answer.sql", ANSWER.replace("+ 2", "+ 3"))
    build.write("functions/base.sql", "create or replace function tasker.base() returns nonsense")
    with pytest.raises(psycopg.errors.SyntaxError):
        migrate(url, scripts=build.scripts)
    assert catalog(url) == before


def test_tables_of_another_unreleased_build_have_to_be_made_anew(url: str, build: Build) -> None:
    migrate(url, scripts=build.scripts)
    build.write("schema/010_things.sql", TABLE.replace("not null ", ""))
    for call in (migrate, status):
        with pytest.raises(SchemaBehind, match=r"schema/010_things\.sql\); make it anew"):
            call(url, scripts=build.scripts)


def test_a_database_of_a_newer_release_is_refused(url: str, build: Build, database: Connection) -> None:
    migrate(url, scripts=build.scripts)
    database.execute("update tasker.alembic_version set version_num = '9999'")
    with pytest.raises(TaskerError, match="revision 9999"):
        migrate(url, scripts=build.scripts)


# --- two releases on one database ------------------------------------------------------------------


def test_an_older_release_that_is_served_takes_a_newer_ones_database_as_it_is(
    url: str, build: Build, database: Connection
) -> None:
    old = build.released("1.2.0", serves="1.1.0")
    migrate(url, scripts=old)
    build.write("functions/base.sql", BASE.replace("40", "50"))
    build.write("functions/more.sql", BASE.replace("base", "more"))
    migrate(url, scripts=build.released("1.3.0", serves="1.2.0"))
    database.execute("update tasker.alembic_version set version_num = '9999'")

    found = status(url, scripts=old)
    assert (found.current, found.release) == (True, "1.3.0")
    made = catalog(url)
    assert migrate(url, scripts=old) == []
    assert sql(url, scripts=old) == "-- Nothing to do: the database is current.\n"
    assert catalog(url) == made
    assert answer(database) == 52


def test_a_release_too_old_for_the_database_is_told_to_update(url: str, build: Build) -> None:
    migrate(url, scripts=build.released("1.4.0", serves="1.3.0"))
    for call in (migrate, status):
        with pytest.raises(TaskerError, match=r"serves releases since 1\.3\.0; this one is 1\.2\.9: update"):
            call(url, scripts=build.released("1.2.9", serves="1.1.0"))


def test_a_newer_release_refuses_to_run_before_the_migration(url: str, build: Build) -> None:
    migrate(url, scripts=build.released("1.9.0", serves="1.8.0"))
    build.write("functions/base.sql", BASE.replace("40", "50"))
    newer = build.released("1.10.0", serves="1.9.0")
    assert status(url, scripts=newer).pending == ("functions/base.sql",)
    assert migrate(url, scripts=newer) == ["functions/base.sql"]


def test_functions_that_running_processes_call_otherwise_are_named_beforehand(url: str, build: Build) -> None:
    migrate(url, scripts=build.scripts)
    build.write("functions/answer.sql", ANSWER.replace("+ 2", "+ 3"))
    assert status(url, scripts=build.scripts).broken == ()
    build.write("functions/base.sql", BASE.replace("returns integer", "returns bigint"))
    build.remove("functions/answer.sql")
    assert status(url, scripts=build.scripts).broken == ("functions/answer.sql", "functions/base.sql")


def test_a_migration_does_not_queue_for_long_before_those_who_work(
    url: str, build: Build, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.db.migrate.LOCK_SECONDS", 0.1)
    migrate(url, scripts=build.scripts)
    made = catalog(url)
    build.write("functions/base.sql", BASE.replace("40", "50"))
    with database.transaction():
        database.execute("lock table tasker.sql_files")
        with pytest.raises(Unreachable, match="nothing was changed: another session has held a lock"):
            migrate(url, scripts=build.scripts)
    assert catalog(url) == made


def test_a_change_that_deadlocks_with_a_running_call_is_made_again(url: str) -> None:
    migrate(url)
    tries: list[Future[None]] = []
    with ThreadPoolExecutor(1) as beside, psycopg.connect(url) as other:
        other.execute("set deadlock_timeout = '1h'")  # so that the change is the one that is ended
        other.execute("lock table tasker.steps in row exclusive mode")

        def call() -> None:
            other.execute("select from tasker.tasks")
            other.commit()

        def change() -> int:
            with psycopg.connect(url) as own:
                own.execute("set deadlock_timeout = '10ms'")
                own.execute("lock table tasker.tasks in access exclusive mode")
                tries.append(beside.submit(call) if not tries else tries[0])
                if len(tries) == 1:
                    await_blocked(url, other)
                own.execute("lock table tasker.steps in access exclusive mode")
                return len(tries)

        assert again_after_deadlock(change) == 2
        tries[0].result()


def await_blocked(url: str, session: Connection) -> None:
    """Until a session waits for another."""
    deadline = time.monotonic() + 10
    with psycopg.connect(url, autocommit=True) as observer:
        query = "select cardinality(pg_blocking_pids(%s)) > 0"
        while observer.execute(query, [session.info.backend_pid]).fetchone() != (True,):
            assert time.monotonic() < deadline, "it does not wait"
            time.sleep(0.005)


def test_the_script_for_an_existing_database_holds_what_is_pending_and_makes_it_current(
    url: str, build: Build, database: Connection
) -> None:
    migrate(url, scripts=build.scripts)
    assert sql(url, scripts=build.scripts) == "-- Nothing to do: the database is current.\n"
    build.write("functions/base.sql", BASE.replace("integer", "bigint"))
    build.remove("functions/answer.sql")
    printed = sql(url, scripts=build.scripts)
    assert "create table" not in printed
    database.execute(printed.encode())
    assert status(url, scripts=build.scripts).current


def test_a_user_who_may_not_make_a_schema_is_told_about_the_script(url: str, database: Connection) -> None:
    role = f"limited_{urlsplit(url).path[1:]}"
    database.execute(f"create role {role}")
    try:
        limited = f"{url}{'&' if '?' in url else '?'}options=-crole%3D{role}"
        with pytest.raises(SettingsError, match="tasker db sql"):
            migrate(limited)
        database.execute(f"create schema tasker authorization {role}")
        assert migrate(limited)
        require_current(limited)
    finally:
        database.execute(f"drop owned by {role}; drop role {role}")
