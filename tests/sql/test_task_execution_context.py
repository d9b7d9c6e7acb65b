from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from tasker.domain.states import StepState
from tests.sql.actions import cancel, resolve, retry, skip
from tests.sql.protocol import Protocol, Row


def context(protocol: Protocol, task: UUID) -> Row:
    """The row of task_execution_context of one task."""
    return protocol.row("select * from tasker.task_execution_context(%s)", [[task]])


def summary(protocol: Protocol, task: UUID) -> tuple[str, str, str]:
    """Its execution status, recommended action and health."""
    row = context(protocol, task)
    return row["execution_status"], row["recommended_action"], row["health_status"]


def submitted(protocol: Protocol, notation: str) -> tuple[UUID, dict[str, int]]:
    """A task of a graph and its step ids by name."""
    protocol.register(notation)
    task = protocol.submit()
    return task, protocol.steps(task)


def test_steps_that_may_run_wait_for_workers(protocol: Protocol) -> None:
    task, _ = submitted(protocol, "a > b")
    assert summary(protocol, task) == ("has_ready_steps", "wait_for_workers", "healthy")


def test_held_steps_count_as_ready(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.pause_queue()
    assert summary(protocol, protocol.submit())[0] == "has_ready_steps"


def test_a_task_one_of_whose_steps_runs_is_processing(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b")
    protocol.claim(steps["a"])
    assert summary(protocol, task) == ("processing", "wait_for_completion", "healthy")


def test_a_task_with_nothing_but_retries_waits_for_the_first_of_them(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b > c")
    protocol.fail(steps["a"], retry_after_ms=9000)
    protocol.fail(steps["b"], retry_after_ms=5000)
    assert summary(protocol, task) == ("waiting_for_retry", "wait_until_due", "recovering")
    assert context(protocol, task)["next_due_at"] == protocol.now + timedelta(seconds=5)


def test_a_task_that_starts_later_waits_for_its_time(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit(run_after_ms=60_000)
    assert summary(protocol, task) == ("waiting_for_signal", "wait_until_due", "healthy")
    row = context(protocol, task)
    assert (row["state"], row["next_due_at"]) == ("pending", protocol.now + timedelta(seconds=60))


def test_a_failed_step_beside_one_that_goes_on_degrades_the_task(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b")
    protocol.fail(steps["a"], permanent=True)
    assert summary(protocol, task) == ("has_ready_steps", "wait_for_workers", "degraded")


def test_failures_block_a_task_once_nothing_else_goes_on(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a > b")
    protocol.fail(steps["a"], permanent=True)
    assert summary(protocol, task) == ("blocked_by_failures", "handle_failures", "blocked")
    retry(protocol, steps["a"])
    assert summary(protocol, task) == ("has_ready_steps", "wait_for_workers", "healthy")


def test_a_paused_task_is_paused_whatever_its_steps_do(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b")
    protocol.claim(steps["a"])
    protocol.pause_task(task)
    assert summary(protocol, task) == ("paused", "resume_task", "healthy")


@pytest.mark.parametrize("last", ["complete", "skip", "resolve", "cancel"])
def test_nothing_is_left_to_do_for_a_task_without_open_steps(protocol: Protocol, last: str) -> None:
    task, steps = submitted(protocol, "a > b")
    protocol.complete(steps["a"])
    match last:
        case "complete":
            protocol.complete(steps["b"])
        case "skip":
            skip(protocol, steps["b"])
        case "resolve":
            resolve(protocol, steps["b"])
        case "cancel":
            cancel(protocol, task)
    assert summary(protocol, task) == ("all_complete", "none", "healthy")
    assert context(protocol, task)["completion_percentage"] == (50 if last == "cancel" else 100)


def test_waiting_though_nothing_goes_on_and_nothing_failed_is_for_the_doctor(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a > b")
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute("update tasker.steps set state = 'complete' where id = %s", [steps["a"]])
        assert summary(protocol, task) == ("waiting_for_dependencies", "run_doctor", "blocked")


def test_every_state_is_counted_by_name(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b, c > d")
    protocol.claim(steps["a"])
    protocol.fail(steps["b"], permanent=True)
    row = context(protocol, task)
    counted = {"in_progress": 1, "error": 1, "enqueued": 1, "pending": 1}
    assert row["steps_by_state"] == dict.fromkeys(StepState, 0) | counted
    assert row["steps_total"] == 4


def test_the_percentage_is_cut_so_that_100_means_all(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b, c")
    protocol.complete(steps["a"], steps["b"])
    assert context(protocol, task)["completion_percentage"] == Decimal("66.66")


def test_many_tasks_are_answered_at_once_and_unknown_ones_are_absent(protocol: Protocol) -> None:
    first, _ = submitted(protocol, "a")
    second = protocol.submit()
    protocol.submit()
    rows = protocol.rows(
        "select task_id from tasker.task_execution_context(%s)", [[second, UUID(int=0), first]]
    )
    assert [row["task_id"] for row in rows] == sorted((first, second))
