"""A release rolls out under load, the database first, then the workers: nothing lost, nothing repeated."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tasker import __version__
from tasker.db.migrate import again_after_deadlock, migrate
from tasker.db.scripts import Release, Scripts, SqlFile
from tests.acceptance.effects import assert_settled, effects
from tests.acceptance.system import APPS, System, Worker, eventually

LEDGER = f"{APPS}.ledger"
NEXT = "99.0.0"
NEW_FUNCTION = """\
-- Only the next release calls this.
create or replace function tasker.of_the_next_release() returns integer
language sql
as $$ select 1 $$;
"""
NEW_SCHEMA = """
    alter table tasker.tasks add column of_the_next_release text;
    alter table tasker.steps add column of_the_next_release text;
    alter table tasker.workers add column of_the_next_release text;
    update tasker.alembic_version set version_num = '9999';
"""


def next_release() -> Scripts:
    """Every function with another body, and one more; it serves this release."""
    this = Scripts.read()
    changed = [file._replace(text=file.text.replace("$$;", "-- other\n$$;")) for file in this.functions]
    assert all(new.header == old.header for new, old in zip(changed, this.functions, strict=True))
    assert all(new.digest != old.digest for new, old in zip(changed, this.functions, strict=True))
    added = SqlFile("functions/of_the_next_release.sql", NEW_FUNCTION)
    return this._replace(functions=(*changed, added), release=Release(NEXT, __version__))


def roll_out_schema(system: System) -> None:
    """What `tasker db migrate` of the next release would do."""
    assert migrate(system.database_url, scripts=next_release())
    again_after_deadlock(lambda: change_tables(system))


def change_tables(system: System) -> None:
    with psycopg.connect(system.database_url) as connection:
        connection.execute(NEW_SCHEMA)


@pytest.fixture
def rolling(own_system: System) -> Iterator[tuple[System, Worker]]:
    """A system with a worker of this release at work."""
    with own_system.worker(LEDGER, "--concurrency", "2") as worker:
        yield own_system, own_system.ready(worker)


def test_a_worker_of_this_release_works_through_the_migration_to_the_next_and_another_starts_after_it(
    rolling: tuple[System, Worker],
) -> None:
    system, old = rolling
    tasks = system.tasker.submit_many([("ledger/fan", None)] * 10)
    eventually(lambda: len(effects(system)) > 8, "steps run")
    roll_out_schema(system)
    before = len(effects(system))
    tasks += system.tasker.submit_many([("ledger/fan", None)] * 10)
    eventually(lambda: len(effects(system)) > before, "they go on")

    with system.worker(LEDGER, "--concurrency", "1") as restarted:
        system.ready(restarted)
        old.stop()
        assert_settled(system, tasks)
    ended = {outcome for (outcome,) in system.rows("select distinct outcome from tasker.step_attempts")}
    assert ended <= {"complete", "released"}
    assert set(effects(system).values()) == {1}
    assert "Traceback" not in old.log.read_text() + restarted.log.read_text()

    # the release after the next one serves it no more
    system.rows("update tasker.release set version = '100.0.0', serves = %s returning 1", NEXT)
    with system.worker(LEDGER) as too_old:
        assert too_old.process.wait(30) == 1
    assert f"serves releases since {NEXT}; this one is {__version__}: update it" in too_old.log.read_text()
