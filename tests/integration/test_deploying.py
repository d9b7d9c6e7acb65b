"""What docs/deploying.md says about roles and connections is so."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tasker.orchestration import client
from tasker.worker import process
from tests.sql.protocol import Connection, Protocol
from tests.sql.soundness import violations

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploying.md").read_text()


def grants() -> str:
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def test_the_role_of_the_page_can_run_everything_but_the_migration(session: Connection) -> None:
    session.execute(grants().encode())
    session.execute("set local role tasker_app")
    protocol, moves = Protocol(session), True
    protocol.register("a > b > c")
    task = protocol.submit()
    (first,) = protocol.rows("select id from tasker.steps where state = 'enqueued'")
    won = protocol.claim(first["id"])
    protocol.release(won)
    kept = protocol.finish(
        protocol.claim(first["id"]).complete(), keep={"queue": "celery", "budget_ms": 50, "max": 64}
    )
    protocol.finish(kept.fail(permanent=True), moves=True)
    protocol.call("retry_steps", [], [task], "somebody", None, moves)
    protocol.call("recover_steps", 3, 100, moves)
    protocol.call("take_turn", "start_due", "1 s", protocol.worker)
    protocol.call("beat_worker", protocol.worker, 1, "{}")
    protocol.due()
    protocol.dispatch()
    protocol.call("cancel_tasks", [task], "somebody", None, moves)
    for view in ("step_readiness(array[%s])", "task_execution_context(array[%s])"):
        assert session.execute(f"select * from tasker.{view}", [task]).fetchall()
    session.execute("select tasker.system_health_counts()")
    assert session.execute("select * from tasker.invariant_violations()").fetchall() == []
    assert session.execute("select count(*) from tasker.sql_files, tasker.alembic_version").fetchone() != (0,)
    assert violations(session) == {}
    with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
        session.execute("create table tasker.more ()")


def test_a_process_opens_no_more_connections_than_the_page_says() -> None:
    rows = dict(
        re.findall(r"^\| ([a-z, ]+) \| (\d[^|]*?) \|$", PAGE.split("## Connections")[1], re.MULTILINE)
    )
    pool, heartbeat = process.CONNECTIONS, 1
    assert rows["application"] == str(client.CONNECTIONS)
    assert rows["worker, prefork"] == f"{pool + heartbeat}, and {pool} for each child"
    assert rows["worker, threads"] == f"{pool + heartbeat}, and 1 for each thread"
    assert rows["worker, solo"] == str(pool + heartbeat)
