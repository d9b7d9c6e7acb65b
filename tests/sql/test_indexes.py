"""No index that no query uses: each costs every write that it mentions."""

from __future__ import annotations

from bench.calls import HOT, LOOPS, READS, UNCOUNTED, Stage, stand
from bench.database import prepare
from bench.settled import add_history
from tasker.db import dead_letters
from tests.sql.protocol import Connection, Protocol, request

GUARDS = {
    "template_steps_template_id_name_key",
    "templates_namespace_name_version_key",
    "transitions_pkey",
    "alembic_version_pkc",
    "release_pkey",
    "sql_files_pkey",
}
"""They keep rows unique, whether or not anything is looked up by them; the last three are of migrations."""


def test_every_index_is_used_by_some_call_or_keeps_rows_unique(connection: Connection) -> None:
    own = Protocol(connection)
    prepare(own)
    add_history(own, 300)
    stand(own)
    with connection.transaction():
        run_everything(own)
        found = own.rows(
            "select relname as name, pg_stat_get_xact_numscans(indexrelid) as scans"
            " from pg_index join pg_class on pg_class.oid = indexrelid"
            " where relnamespace = 'tasker'::regnamespace"
        )
    assert {row["name"] for row in found if row["scans"] == 0} - GUARDS == set()


def run_everything(own: Protocol) -> None:
    """The calls of workers, coordinators and operators, and the lists."""
    stage = Stage(own)
    for make in (HOT | LOOPS | UNCOUNTED).values():
        asked = make(stage)
        own.call(asked.function, *asked.arguments)
        stage.clear()
    own.connection.execute("set local enable_seqscan = off")  # as plans are for tables of some size
    stage.submit()
    for read in READS.values():
        read(own.connection, stage.tasks[0])
    for _ in range(2):
        own.submit_all([request("chain", idempotency_key="again")])
    (letter, *_) = dead_letters.list_dead_letters(own.connection, only_open=True).items
    dead_letters.get_dead_letter(own.connection, letter.id)
    dead_letters.list_dead_letters(own.connection, fingerprint=letter.fingerprint)
