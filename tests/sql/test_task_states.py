from __future__ import annotations

from uuid import uuid4

from tasker.db.functions import task_states
from tests.sql.protocol import Protocol


def test_the_states_of_tasks_are_told_by_id_and_nothing_of_what_is_no_task(protocol: Protocol) -> None:
    protocol.register("a")
    running, done, other = (protocol.submit() for _ in range(3))
    protocol.complete(protocol.steps(done)["a"])
    asked = [running, done, uuid4()]
    assert task_states(protocol.connection, asked) == {running: "in_progress", done: "complete"}
    assert task_states(protocol.connection, []) == {}
    assert protocol.task(other)["state"] == "in_progress"
