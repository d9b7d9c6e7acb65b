from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasker.db.scripts import Scripts
from tasker.orchestration import doctor
from tasker.orchestration.doctor import Finding, checks
from tests.sql.actions import OPERATOR, REASON, pause_queues, stop
from tests.sql.protocol import QUEUE, Connection, Protocol


@pytest.fixture
def system(session: Connection) -> Protocol:
    """An installation in good health whose clock is this machine's: a worker, a coordinator, a task."""
    session.execute("set local synchronous_commit = on")  # the tests' servers are quick, not durable
    session.execute("set local statement_timeout = '30s'")
    protocol = Protocol(session)
    protocol.pass_time((datetime.now(UTC) - protocol.now).total_seconds())
    assert protocol.worker
    protocol.register("a > b")
    protocol.submit()
    session.execute("select tasker.take_turn('start_due', '1 s', null)")
    return protocol


def enqueued(system: Protocol) -> list[int]:
    """The ids of the steps whose messages are out."""
    return [row["id"] for row in system.rows("select id from tasker.steps where state = 'enqueued'")]


def wrong(system: Protocol) -> list[Finding]:
    """The findings that are not ok."""
    return [finding for finding in checks(system.connection) if not finding.ok]


def only(system: Protocol) -> Finding:
    """The one finding that is not ok."""
    (finding,) = wrong(system)
    return finding


def test_every_check_says_that_it_found_nothing(system: Protocol) -> None:
    found = checks(system.connection)
    assert [finding.name for finding in found if finding.ok and finding.text and not finding.remedy] == [
        "coordinator",
        "due",
        "stopped_workers",
        "timeouts",
        "queues",
        "handlers",
        "holds",
        "clock",
        "indexes",
        "postgresql",
        "invariants",
    ]


def test_a_paused_queue_is_no_defect_but_is_not_forgotten(system: Protocol) -> None:
    pause_queues(system, QUEUE)
    system.pass_time(90)
    advice = [finding for finding in checks(system.connection) if finding.name == "holds"]
    text = f"queue `celery` was paused 1 min 30 s ago by {OPERATOR} ({REASON}); 1 step waiting"
    assert advice == [
        Finding("holds", ok=True, text=text, remedy="`tasker queue resume celery` lets it go on")
    ]


def test_an_installation_without_a_coordinator_is_told_to_start_one(system: Protocol) -> None:
    system.connection.execute("update tasker.coordinator_loops set ran_at = ran_at - interval '20 s'")
    assert only(system).text.startswith("no coordinator seen for 20 s")
    system.connection.execute("delete from tasker.coordinator_loops")
    assert only(system).text == "no coordinator was ever seen"
    assert "tasker coordinator" in only(system).remedy


def test_work_that_should_have_started_is_counted(system: Protocol) -> None:
    step = system.claim(*enqueued(system))
    system.finish(step.fail())
    system.connection.execute(
        "update tasker.steps set run_after = tasker.clock() - interval '40 s' where run_after is not null"
    )
    assert only(system).text.startswith("1 step should have started, the first 40 s ago")


def test_work_left_to_a_stopped_worker_is_counted_once_it_is_late(system: Protocol) -> None:
    other = system.register_worker()
    system.claim(*enqueued(system), worker=other)
    stop(system, other)
    assert wrong(system) == []
    system.connection.execute(
        "update tasker.workers set stopped_at = stopped_at - interval '40 s' where id = %s", [other]
    )
    assert only(system).text.startswith("1 step of stopped workers not taken back for 40 s")


def test_a_queue_that_nobody_serves_is_named_with_the_command(system: Protocol) -> None:
    system.register("a, b > c", name="report", queue="reports")
    system.submit("report")
    system.submit("report")
    assert only(system) == Finding(
        "queues",
        ok=False,
        text="4 steps on queue `reports`, the oldest for 0 s, and no live worker serves it",
        remedy="start one with `tasker -A MODULE worker --queues reports`",
    )


def test_a_handler_that_no_worker_has_is_named(system: Protocol) -> None:
    system.register("a", name="rare", handler="shop/x.y")
    system.submit("rare")
    finding = only(system)
    assert finding.name == "handlers"
    assert finding.text.startswith("1 step on queue `celery` need handler `shop/x.y`")
    assert finding.remedy == "start a worker of queue `celery` whose -A MODULE registers `shop/x.y`"


@pytest.mark.parametrize(("seconds", "said"), [(60, "1 min ahead of"), (-60, "1 min behind")])
def test_a_clock_that_is_wrong_is_told_from_ours(system: Protocol, seconds: float, said: str) -> None:
    system.pass_time(seconds)
    system.connection.execute("update tasker.coordinator_loops set ran_at = tasker.clock()")
    assert only(system).text == f"the database's clock is {said} this machine's"


def test_a_missing_index_is_named(system: Protocol) -> None:
    system.connection.execute("drop index tasker.steps_due")
    assert only(system).text == "the index tasker.steps_due is missing or was not built to its end"
    assert "tasker db sql --empty" in only(system).remedy


def test_every_index_that_belongs_to_no_key_is_looked_for(session: Connection) -> None:
    query = """
        select c.relname
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        where c.relnamespace = 'tasker'::regnamespace
          and not exists (select 1 from pg_constraint where conindid = i.indexrelid)
          and i.indrelid not in (select to_regclass('tasker.alembic_version'))
    """
    found = {name for (name,) in session.execute(query.encode())}
    assert found == set(Scripts.read().index_names())
    assert found


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("synchronous_commit", "off", "may take back what was reported as done"),
        ("default_transaction_isolation", "serializable", "every call of Tasker's is refused"),
    ],
)
def test_settings_of_postgresql_that_break_what_is_promised_are_wrong(
    system: Protocol, setting: str, value: str, said: str
) -> None:
    system.connection.execute(f"set local {setting} = '{value}'".encode())
    assert said in only(system).text
    assert only(system).remedy


def test_a_postgresql_without_room_for_more_connections_is_wrong(
    system: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CONNECTIONS_SHARE", 0.0)
    assert "connections of PostgreSQL are taken: the next process may get none" in only(system).text


def test_a_session_without_limits_is_advised_to_have_them(system: Protocol) -> None:
    system.connection.execute("set local statement_timeout = 0")
    (advice,) = [finding for finding in checks(system.connection) if finding.remedy]
    assert (advice.name, advice.ok) == ("postgresql", True)
    assert "statement_timeout = '30s'" in advice.remedy


def test_a_violation_is_counted_and_shown_once_each(system: Protocol) -> None:
    system.submit()
    system.connection.execute("update tasker.steps set parents_left = 2 where name = 'b'")
    finding = only(system)
    assert finding.text.startswith("parents_left is violated 2 times; ")
    assert "/b: pending on queue celery" in finding.text


def test_tasks_that_finished_long_ago_are_looked_at_when_asked_for(system: Protocol) -> None:
    while steps := enqueued(system):
        system.complete(*steps)
    system.connection.execute("update tasker.tasks set steps_total = 3, finished_at = now() - interval '2 d'")
    assert wrong(system) == []
    found = checks(system.connection, hours=None)
    assert [finding.name for finding in found if not finding.ok] == ["invariants"]


def test_a_history_too_long_to_be_checked_is_no_fault(
    system: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.connection.execute(
        "insert into tasker.tasks (id, template_id, namespace, name, state, priority, context,"
        " correlation_id, request_digest, created_at, steps_total, steps_open, steps_active, steps_failed)"
        " select gen_random_uuid(), template_id, namespace, name, 'paused', 0, '{}',"
        " id, '', created_at, 2, 2, 1, 0 from tasker.tasks, generate_series(1, 5000)"
    )
    monkeypatch.setattr(doctor, "SECONDS_FOR_INVARIANTS", 0.001)
    finding = next(finding for finding in checks(system.connection) if finding.name == "invariants")
    assert finding.ok
    assert finding.text.startswith("not looked at: tasks not finished, or in the last 1 h are too many for")


def test_a_handler_that_nobody_ends_is_named_with_what_to_do(system: Protocol) -> None:
    system.claim(*enqueued(system))
    system.pass_time(300 + 31)
    system.connection.execute("update tasker.coordinator_loops set ran_at = tasker.clock()")
    found = {finding.name: finding for finding in wrong(system)}
    assert found["timeouts"].text == "1 step in progress for 30 s longer than allowed"


def test_steps_that_have_waited_long_for_room_are_told_with_their_queue(system: Protocol) -> None:
    system.close_gate()
    system.submit("graph")
    system.pass_time(61)
    system.connection.execute("update tasker.coordinator_loops set ran_at = tasker.clock()")
    told = [finding.text for finding in checks(system.connection) if finding.name == "backlog"]
    assert told[-1] == f"1 step waiting for room on queue `{QUEUE}`, the oldest for 1 min 1 s"
    pause_queues(system, QUEUE)
    assert [finding for finding in checks(system.connection) if finding.name == "backlog"] == []


def test_a_message_that_is_old_is_told_with_its_queue_and_is_no_fault(system: Protocol) -> None:
    system.pass_time(61)
    system.connection.execute("update tasker.coordinator_loops set ran_at = tasker.clock()")
    (told,) = [finding for finding in checks(system.connection) if finding.name == "backlog"]
    assert told.ok
    assert told.text == f"1 step enqueued on queue `{QUEUE}`, the oldest for 1 min 1 s"
    pause_queues(system, QUEUE)
    assert [finding for finding in checks(system.connection) if finding.name == "backlog"] == []
