"""The CHECKs and keys of the schema refuse rows that no function may write."""

from __future__ import annotations

import pytest

from tests.sql.protocol import Protocol

CHECK_VIOLATION = "23514"
UNIQUE_VIOLATION = "23505"
FOREIGN_KEY_VIOLATION = "23503"


@pytest.mark.parametrize(
    "setting",
    [
        "steps_active = -1",
        "steps_failed = -1",
        "steps_active = 2, steps_failed = 1",
        "steps_open = 3",
        "state = 'complete'",
        "steps_active = 0",
        "state = 'running'",
    ],
)
def test_a_task_whose_counters_cannot_be_is_refused(protocol: Protocol, setting: str) -> None:
    protocol.register("a, b")
    task = protocol.submit()
    with protocol.refused(CHECK_VIOLATION):
        protocol.connection.execute(f"update tasker.tasks set {setting} where id = %s", [task])


@pytest.mark.parametrize("setting", ["parents_left = -1", "state = 'running'"])
def test_a_step_that_cannot_be_is_refused(protocol: Protocol, setting: str) -> None:
    protocol.register("a")
    task = protocol.submit()
    with protocol.refused(CHECK_VIOLATION):
        protocol.connection.execute(f"update tasker.steps set {setting} where task_id = %s", [task])


def test_an_attempt_has_one_of_the_known_outcomes(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.complete(*protocol.steps(protocol.submit()).values())
    with protocol.refused(CHECK_VIOLATION):
        protocol.connection.execute("update tasker.step_attempts set outcome = 'fine'")


def test_a_task_with_open_steps_cannot_be_complete_even_when_paused(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    protocol.pause_task(task)
    with protocol.refused(CHECK_VIOLATION):
        protocol.connection.execute("update tasker.tasks set state = 'complete' where id = %s", [task])
    protocol.resume_task(task)


def test_two_steps_of_a_task_cannot_share_a_name_nor_two_attempts_a_number(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, _ = protocol.steps(protocol.submit()).values()
    protocol.complete(a)
    with protocol.refused(UNIQUE_VIOLATION):
        protocol.connection.execute("update tasker.steps set name = 'b' where id = %s", [a])
    with protocol.refused(UNIQUE_VIOLATION):
        protocol.connection.execute("insert into tasker.step_attempts select * from tasker.step_attempts")


def test_a_task_with_steps_and_a_template_with_tasks_cannot_vanish(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit()
    for table in ("tasks", "templates"):
        with protocol.refused(FOREIGN_KEY_VIOLATION):
            protocol.connection.execute(f"delete from tasker.{table}")
