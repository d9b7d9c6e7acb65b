from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.sql.actions import cancel, stop
from tests.sql.protocol import Connection, Protocol

HISTORY = 20_000


def health(protocol: Protocol) -> dict[str, Any]:
    """The document of system_health_counts."""
    document: dict[str, Any] = protocol.call("system_health_counts")
    return document


def mixed_tasks(protocol: Protocol) -> tuple[UUID, dict[str, int]]:
    """A task with a step in each state that work can be in, beside one that starts in a minute."""
    protocol.register("a > b; c; d; e; f > g")
    protocol.submit(run_after_ms=60_000)
    task = protocol.submit()
    steps = protocol.steps(task)
    protocol.claim(steps["a"])
    protocol.fail(steps["c"])
    protocol.fail(steps["d"], permanent=True)
    return task, steps


def test_an_empty_system_counts_nothing(protocol: Protocol) -> None:
    found = health(protocol)
    assert set(found["tasks"].values()) | set(found["steps"].values()) == {0}
    assert (found["queues"], found["due"]["overdue"]) == ([], 0)
    assert found["loops"] == {"seconds_since_last": None, "seconds_since": {}}


def test_tasks_and_steps_are_counted_by_state(protocol: Protocol) -> None:
    mixed_tasks(protocol)
    found = health(protocol)
    assert found["tasks"] == {"pending": 1, "in_progress": 1, "paused": 0, "error": 0, "with_failures": 1}
    assert found["steps"] == {
        "pending": 4,
        "ready": 0,
        "enqueued": 2,
        "in_progress": 1,
        "waiting_for_retry": 1,
        "waiting": 5,
        "error": 1,
    }


def test_a_task_in_error_is_counted_until_somebody_deals_with_it(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    protocol.fail(protocol.steps(task)["a"], permanent=True)
    found = health(protocol)
    assert (found["tasks"]["error"], found["steps"]["error"], found["steps"]["pending"]) == (1, 1, 1)
    cancel(protocol, task)
    found = health(protocol)
    assert (found["tasks"]["error"], found["steps"]["error"], found["steps"]["pending"]) == (0, 0, 0)


def test_a_queue_says_what_it_holds_and_how_old_that_is(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit()
    protocol.pass_time(3)
    protocol.close_gate()
    protocol.submit()
    protocol.pass_time(2)
    assert protocol.worker
    assert health(protocol)["queues"] == [
        {
            "name": "celery",
            "paused": False,
            "gate_open": False,
            "workers": 1,
            "enqueued": 1,
            "oldest_enqueued_seconds": 5,
            "ready": 1,
            "oldest_ready_seconds": 2,
        }
    ]


def test_a_step_given_back_counts_as_ready(protocol: Protocol) -> None:
    protocol.register("a", handler="other")
    assert protocol.claim(*protocol.steps(protocol.submit()).values()).ids == []
    assert health(protocol)["steps"]["ready"] == 1


def test_what_is_due_is_told_from_what_should_have_moved(protocol: Protocol) -> None:
    protocol.register("a, b")
    steps = protocol.steps(protocol.submit())
    protocol.fail(steps["a"], retry_after_ms=1000)
    protocol.fail(steps["b"], retry_after_ms=9000)
    protocol.pass_time(5)
    due = health(protocol)["due"]
    assert (due["later"], due["overdue"], due["overdue_seconds"]) == (1, 1, 4)
    assert due["next_due_at"] == "2030-01-01T00:00:09+00:00"


def test_workers_that_stopped_with_work_in_hand_are_counted(protocol: Protocol) -> None:
    protocol.register("a, b")
    steps = protocol.steps(protocol.submit())
    child = protocol.register_worker(parent=protocol.worker, kind="child")
    protocol.register_worker(kind="coordinator")
    protocol.claim(steps["a"], steps["b"], worker=child)
    assert health(protocol)["workers"] == {
        "live": 1,
        "children": 1,
        "coordinators": 1,
        "stopped_with_open_attempts": 0,
        "attempts_of_stopped": 0,
    }
    stop(protocol, child)
    workers = health(protocol)["workers"]
    assert (workers["stopped_with_open_attempts"], workers["attempts_of_stopped"]) == (1, 2)


def test_work_under_a_stopped_main_is_of_a_stopped_worker(protocol: Protocol) -> None:
    protocol.register("a")
    child = protocol.register_worker(parent=protocol.worker, kind="child")
    protocol.claim(*protocol.steps(protocol.submit()).values(), worker=child)
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute(
            "update tasker.workers set stopped_at = tasker.clock() where id = %s", [protocol.worker]
        )
        assert health(protocol)["workers"]["attempts_of_stopped"] == 1


def test_loops_say_how_long_ago_they_ran(protocol: Protocol) -> None:
    protocol.connection.execute("select tasker.take_turn('due', '1 s', null)")
    protocol.pass_time(4)
    protocol.connection.execute("select tasker.take_turn('dispatch', '1 s', null)")
    protocol.pass_time(1)
    assert health(protocol)["loops"] == {"seconds_since_last": 1, "seconds_since": {"due": 5, "dispatch": 1}}


def test_a_paused_task_is_counted_while_something_of_it_moves(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    won = protocol.claim(protocol.steps(task)["a"])
    protocol.pause_task(task)
    assert (health(protocol)["tasks"]["paused"], health(protocol)["steps"]["pending"]) == (1, 1)
    protocol.release(won)
    assert (health(protocol)["tasks"]["paused"], health(protocol)["steps"]["ready"]) == (0, 0)


def pages_read(connection: Connection) -> int:
    """How many pages a call of system_health_counts touches, planning left aside."""
    health(Protocol(connection))
    row = connection.execute(
        "explain (analyze, buffers, format json) select tasker.system_health_counts()"
    ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_the_history_of_settled_tasks_is_not_read(connection: Connection) -> None:
    protocol = Protocol(connection)
    mixed_tasks(protocol)
    few = pages_read(connection)
    connection.execute(
        """
        with task as (
            insert into tasker.tasks (
                id, template_id, namespace, name, state, priority, context, correlation_id, request_digest,
                created_at, finished_at, steps_total, steps_open, steps_active, steps_failed)
            select gen_random_uuid(), t.id, t.namespace, t.name, 'complete', 0, '{}', gen_random_uuid(), '',
                now(), now(), 1, 0, 0, 0
            from tasker.templates t, generate_series(1, %s)
            returning id, template_id
        )
        insert into tasker.steps (
            task_id, template_id, ordinal, name, queue, priority, state, parents_left, changed_at)
        select id, template_id, 0, 'a', 'celery', 0, 'complete', 0, now() from task
        """,
        [HISTORY],
    )
    for statistics in ("none", "fresh"):
        if statistics == "fresh":
            connection.execute("analyze")
        assert pages_read(connection) < few + 100, statistics
