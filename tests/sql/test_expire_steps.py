"""expire_steps: a step that no worker begins in time ends in error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.sql.actions import expire_steps, park_by_hand, resolve, retry, skip
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, keep

MINUTE = timedelta(minutes=1)
IN_A_MINUTE: dict[str, Any] = {"start_within_seconds": 60}


def test_an_enqueued_step_that_waited_too_long_is_an_error_and_not_retried(protocol: Protocol) -> None:
    protocol.register("a > b; c", steps={"a": IN_A_MINUTE})
    task = protocol.submit()
    a, _, c = protocol.steps(task).values()
    assert (protocol.step(a)["start_by"], protocol.step(c)["start_by"]) == (START + MINUTE, None)
    protocol.pass_time(59.999)
    assert expire_steps(protocol)["moved"] == 0
    protocol.pass_time(0.001)
    assert expire_steps(protocol)["moved"] == 1
    assert protocol.states(task) == {"a": "error", "b": "pending", "c": "enqueued"}
    assert protocol.counters(task) == ("in_progress", 3, 1, 1)
    (letter,) = protocol.rows("select reason, error from tasker.dead_letters where step_id = %s", [a])
    assert letter["reason"] == "start_timeout"
    assert letter["error"] == {
        "type": "StartTimeout",
        "message": "no worker began it within its start_within_seconds",
    }
    assert protocol.claim(a).ids == []
    protocol.complete(c)
    assert protocol.counters(task) == ("error", 2, 0, 1)


def test_a_step_that_was_begun_may_take_its_time(protocol: Protocol) -> None:
    protocol.register("a", **IN_A_MINUTE)
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    assert protocol.step(a)["start_by"] is None
    protocol.pass_time(3600)
    assert expire_steps(protocol)["moved"] == 0
    assert protocol.finish(won.complete()).reply["refused"] == []


@pytest.mark.parametrize("held_by", ["queue", "task", "transaction"])
def test_the_time_in_which_a_step_is_held_counts_too(protocol: Protocol, held_by: str) -> None:
    protocol.register("a", **IN_A_MINUTE)
    if held_by == "queue":
        protocol.pause_queue()
    task = protocol.submit(joined=held_by == "transaction")
    a = protocol.steps(task)["a"]
    if held_by == "task":
        protocol.pause_task(task)
        protocol.claim(a)
    assert (protocol.step(a)["state"], protocol.step(a)["start_by"]) == ("ready", START + MINUTE)
    protocol.pass_time(30)
    if held_by == "queue":
        protocol.resume_queue()
    protocol.dispatch()
    assert protocol.step(a)["start_by"] == START + MINUTE, "no matter when it was enqueued"
    protocol.pass_time(30)
    assert expire_steps(protocol)["moved"] == 1


def test_each_time_a_step_may_run_its_time_begins_anew(protocol: Protocol) -> None:
    protocol.register("a > b", **IN_A_MINUTE)
    task = protocol.submit(run_after_ms=600_000)
    a, b = protocol.steps(task).values()
    assert protocol.step(a)["start_by"] is None, "it waits for its task"
    protocol.pass_time(600)
    protocol.due()
    assert protocol.step(a)["start_by"] == protocol.now + MINUTE
    protocol.pass_time(50)
    protocol.release(protocol.claim(a))
    assert protocol.step(a)["start_by"] == protocol.now + MINUTE
    protocol.fail(a, retry_after_ms=600_000)
    assert protocol.step(a)["start_by"] is None, "it waits for its retry"
    protocol.pass_time(600)
    protocol.due()
    protocol.pass_time(50)
    protocol.complete(a)
    assert protocol.step(b)["start_by"] == protocol.now + MINUTE
    protocol.pass_time(60)
    assert expire_steps(protocol)["moved"] == 1
    protocol.pass_time(600)
    retry(protocol, b)
    assert protocol.step(b)["start_by"] == protocol.now + MINUTE


def test_a_step_that_its_worker_kept_has_begun(protocol: Protocol) -> None:
    protocol.register("a > b", **IN_A_MINUTE)
    protocol.expect(work=1)
    a, b = protocol.steps(protocol.submit()).values()
    assert protocol.finish(protocol.claim(a).complete(), keep=keep()).ids == [b]
    assert protocol.step(b)["start_by"] is None


def test_what_an_operator_ended_is_not_ended_again(protocol: Protocol) -> None:
    protocol.register("a, b, c", **IN_A_MINUTE)
    task = protocol.submit()
    a, b, c = protocol.steps(task).values()
    skip(protocol, a)
    resolve(protocol, b)
    park_by_hand(protocol, c)
    protocol.pass_time(60)
    assert expire_steps(protocol)["moved"] == 0
    assert protocol.states(task) == {"a": "skipped", "b": "resolved_manually", "c": "error"}


def test_a_pass_takes_no_more_steps_than_its_limit_and_tells_what_moved(protocol: Protocol) -> None:
    protocol.register("a, b, c", **IN_A_MINUTE)
    protocol.submit()
    protocol.pass_time(60)
    replies = [expire_steps(protocol, limit=2, moves=True) for _ in range(3)]
    assert [reply["moved"] for reply in replies] == [2, 1, 0]
    told = [(move["step"], move["to"], move["reason"]) for move in replies[1]["moves"]]
    assert told == [("c", "error", "start_timeout"), (None, "error", None)]


@pytest.mark.parametrize("first", ["claim", "expiry"])
def test_of_a_claim_and_the_expiry_whoever_comes_first_wins(
    open_session: Callable[[], Protocol], beside: Beside, first: str
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a", **IN_A_MINUTE)
    a = worker.steps(worker.submit())["a"]
    worker.worker  # noqa: B018 - registers it, before locks are held
    coordinator.pass_time(60)
    if first == "claim":
        with worker.connection.transaction():
            worker.claim(a)
            expiry = beside.start_blocked(coordinator, worker, lambda: expire_steps(coordinator))
        assert expiry.result()["moved"] == 0
        assert worker.step(a)["state"] == "in_progress"
    else:
        with coordinator.connection.transaction():
            assert expire_steps(coordinator)["moved"] == 1
            claim = beside.start_blocked(worker, coordinator, lambda: worker.claim(a))
        assert claim.result().ids == []
        assert worker.step(a)["state"] == "error"
