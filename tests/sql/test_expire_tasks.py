"""expire_tasks: a task that is not settled by its deadline is ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.sql.actions import expire_tasks, retry
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, definition

MINUTE = 60_000


def letters(session: Protocol, step: int) -> list[tuple[str, str, str]]:
    rows = session.rows("select reason, error from tasker.dead_letters where step_id = %s", [step])
    return [(row["reason"], row["error"]["type"], row["error"].get("message", "")) for row in rows]


def test_every_active_step_becomes_error_and_the_task_with_them(protocol: Protocol) -> None:
    protocol.register("done, runs, later, out > behind; held", steps={"held": {"queue": "slow"}})
    protocol.pause_queue("slow")
    task = protocol.submit(deadline_ms=MINUTE)
    steps = protocol.steps(task)
    protocol.complete(steps["done"])
    protocol.fail(steps["later"], retry_after_ms=10 * MINUTE)
    won = protocol.claim(steps["runs"])
    protocol.pass_time(59.999)
    assert (expire_tasks(protocol)["moved"], expire_tasks(protocol)["looked_at"]) == (0, 0)
    protocol.pass_time(0.001)
    assert expire_tasks(protocol)["moved"] == 1
    assert protocol.states(task) == {
        "done": "complete",
        "runs": "error",
        "later": "error",
        "out": "error",
        "behind": "pending",
        "held": "error",
    }
    assert protocol.counters(task) == ("error", 5, 0, 4)
    missed = ("deadline", "DeadlineExceeded", "the deadline of the task passed")
    assert {
        letter for name in ("runs", "later", "out", "held") for letter in letters(protocol, steps[name])
    } == {missed}
    (attempt,) = protocol.attempts(steps["runs"])
    assert (attempt["outcome"], attempt["error"]["type"]) == ("cancelled", "DeadlineExceeded")
    assert protocol.finish(won.complete({"paid": 1})).reply["refused"] == [steps["runs"]]
    assert protocol.attempts(steps["runs"])[0]["late"]["result"] == {"paid": 1}


def test_a_late_failure_is_refused_and_kept_too(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(deadline_ms=MINUTE)
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    protocol.pass_time(60)
    expire_tasks(protocol)
    assert protocol.finish(won.fail(message="late")).reply["refused"] == [a]
    assert protocol.attempts(a)[0]["late"]["error"]["message"] == "late"
    assert protocol.step(a)["state"] == "error"


def test_the_deadline_counts_from_the_time_the_task_may_start(protocol: Protocol) -> None:
    protocol.store(replace(definition("a"), deadline_seconds=60))
    now, later = protocol.submit(), protocol.submit(run_after_ms=10 * MINUTE)
    other = protocol.submit(deadline_ms=2 * MINUTE)
    deadlines = {task: protocol.task(task)["deadline_at"] for task in (now, later, other)}
    assert deadlines == {
        now: START + timedelta(minutes=1),
        later: START + timedelta(minutes=11),
        other: START + timedelta(minutes=2),
    }
    protocol.pass_time(60)
    assert expire_tasks(protocol)["moved"] == 1
    assert [protocol.task(task)["state"] for task in (now, later, other)] == [
        "error",
        "pending",
        "in_progress",
    ]


def test_a_task_that_nobody_has_started_waits_for_its_start(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(run_after_ms=MINUTE, deadline_ms=MINUTE)
    protocol.pass_time(600)
    assert expire_tasks(protocol)["looked_at"] == 0
    protocol.due()
    assert expire_tasks(protocol)["moved"] == 1
    assert protocol.task(task)["state"] == "error"


def test_a_settled_task_is_left_as_it_is_and_not_looked_at_again(protocol: Protocol) -> None:
    protocol.register("a")
    complete, failed = protocol.submit(deadline_ms=MINUTE), protocol.submit(deadline_ms=MINUTE)
    protocol.complete(protocol.steps(complete)["a"])
    protocol.fail(protocol.steps(failed)["a"], permanent=True)
    protocol.pass_time(60)
    first, second = expire_tasks(protocol), expire_tasks(protocol)
    assert (first["moved"], first["looked_at"], second["looked_at"]) == (0, 2, 0)
    assert protocol.task(complete)["state"] == "complete"
    assert letters(protocol, protocol.steps(failed)["a"])[0][0] == "permanent"


def test_a_paused_task_settles_when_it_is_resumed(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(deadline_ms=MINUTE)
    protocol.pause_task(task)
    protocol.pass_time(60)
    assert expire_tasks(protocol)["moved"] == 1
    assert protocol.counters(task) == ("paused", 1, 0, 1)


def test_a_retry_lets_the_task_go_on_without_its_deadline(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit(deadline_ms=MINUTE)
    a = protocol.steps(task)["a"]
    protocol.pass_time(60)
    expire_tasks(protocol)
    retry(protocol, tasks=[task])
    protocol.pass_time(3600)
    assert expire_tasks(protocol)["looked_at"] == 0
    protocol.complete(a)
    assert protocol.states(task) == {"a": "complete", "b": "enqueued"}


def test_a_deadline_that_passed_after_the_failure_does_not_end_what_is_retried(protocol: Protocol) -> None:
    protocol.register("a, b")
    task = protocol.submit(deadline_ms=MINUTE)
    a, b = protocol.steps(task).values()
    protocol.fail(a, permanent=True)
    protocol.fail(b, permanent=True)
    protocol.pass_time(30)
    retry(protocol, a)
    assert protocol.task(task)["deadline_at"] is not None
    protocol.fail(a, permanent=True)
    protocol.pass_time(30)
    retry(protocol, a)
    assert expire_tasks(protocol)["looked_at"] == 0
    assert protocol.step(a)["state"] == "enqueued"


def test_a_pass_looks_at_no_more_tasks_than_its_limit_and_tells_what_moved(protocol: Protocol) -> None:
    protocol.register("a")
    for _ in range(3):
        protocol.submit(deadline_ms=MINUTE)
    protocol.pass_time(60)
    replies = [expire_tasks(protocol, limit=2, moves=True) for _ in range(3)]
    assert [reply["moved"] for reply in replies] == [2, 1, 0]
    told = [(move["step"], move["to"], move["reason"]) for move in replies[1]["moves"]]
    assert told == [("a", "error", "deadline"), (None, "error", None)]


@pytest.mark.parametrize("first", ["finish", "deadline"])
def test_of_a_finish_and_the_deadline_whoever_holds_the_task_first_wins(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit(deadline_ms=MINUTE)
    a = worker.steps(task)["a"]
    won = worker.claim(a)
    coordinator.pass_time(60)
    if first == "finish":
        with worker.connection.transaction():
            worker.finish(won.complete())
            expired = beside.start_blocked(coordinator, worker, lambda: expire_tasks(coordinator))
        assert expired.result()["moved"] == 1
        assert worker.states(task) == {"a": "complete", "b": "error"}, "the child is seen, too"
    else:
        with coordinator.connection.transaction():
            expire_tasks(coordinator)
            finished = beside.start_blocked(worker, coordinator, lambda: worker.finish(won.complete()))
        assert finished.result().reply["refused"] == [a]
        assert worker.states(task) == {"a": "error", "b": "pending"}
