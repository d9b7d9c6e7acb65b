"""History does not slow the present: `make bench-history` in small; and what it measures is what it says."""

from __future__ import annotations

import os

import pytest

from bench.calls import HOT, LOOPS, Stage, stand
from bench.database import new_database, prepare
from bench.history import compare, table, too_slow
from bench.settled import add_history
from tests.conftest import fresh_postgres, servers_folder
from tests.sql.protocol import Connection, Protocol
from tests.sql.soundness import violations

SETTLED = 50_000
"""Stands for the 1 000 000 of `make bench-history`."""

ROUNDS = 300


@pytest.mark.slow
def test_no_call_is_slower_beside_fifty_thousand_settled_tasks() -> None:
    with servers_folder() as (folder, held), fresh_postgres(folder, held) as server:
        found = compare(lambda name: new_database(server, name), SETTLED, ROUNDS)
    assert too_slow(found) == [], table(found)


def test_the_history_is_what_the_engine_would_have_left(connection: Connection) -> None:
    own = Protocol(connection)
    prepare(own)
    add_history(own, 300, seed=int(os.environ.get("SEED", "1")))
    assert violations(connection) == {}
    assert own.rows("select * from tasker.invariant_violations()") == []
    counted = own.rows("select state, count(*) as n from tasker.tasks group by state order by state")
    assert {row["state"]: row["n"] for row in counted} == {"cancelled": 4, "complete": 296, "error": 4}
    stand(own)
    assert violations(connection) == {}


@pytest.mark.parametrize("call", HOT | LOOPS)
def test_a_measured_call_has_something_to_do_for_every_row(protocol: Protocol, call: str) -> None:
    prepare(protocol)
    stage = Stage(protocol, rows=3)
    asked = (HOT | LOOPS)[call](stage)
    before = moves(protocol)
    places = ", ".join(["%s"] * len(asked.arguments))
    answer = protocol.rows(f"select tasker.{asked.function}({places}) as row", asked.arguments)
    if asked.function == "overdue_attempts":
        assert len(answer) == 3
    elif asked.function == "republish_steps":
        assert answer[0]["row"]["moved"] == 3
    else:
        assert moves(protocol) - before >= 3
    stage.clear()
    assert protocol.rows("select id from tasker.tasks where state = 'in_progress'") == []


def moves(protocol: Protocol) -> int:
    """How many the log has."""
    return int(protocol.row("select count(*) as n from tasker.transitions")["n"])
