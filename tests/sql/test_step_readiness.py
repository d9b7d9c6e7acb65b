from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from tests.sql.actions import REASON, cancel, park, park_by_hand, recover, resolve, retry, skip, stop
from tests.sql.protocol import HANDLER, Protocol, Reply, Row, graph

SATISFYING = {"complete", "skipped", "resolved_manually"}
FINAL = SATISFYING | {"cancelled"}


def readiness(protocol: Protocol, *tasks: UUID) -> dict[str, Row]:
    """The rows of step_readiness by step name."""
    return {
        row["name"]: row for row in protocol.rows("select * from tasker.step_readiness(%s)", [list(tasks)])
    }


def reasons(protocol: Protocol, task: UUID) -> dict[str, list[str]]:
    """The blocking reasons of every step of a task."""
    return {name: row["blocking_reasons"] for name, row in readiness(protocol, task).items()}


def submitted(protocol: Protocol, notation: str, **fields: Any) -> tuple[UUID, dict[str, int]]:
    """A task of a graph that a live worker can run, and its step ids by name."""
    assert protocol.worker
    protocol.register(notation, **fields)
    task = protocol.submit()
    return task, protocol.steps(task)


def park_unclaimable(protocol: Protocol, step: int) -> None:
    """park_steps of a step whose message was sent again in vain."""
    protocol.connection.execute("update tasker.steps set republished = 5 where id = %s", [step])
    assert park(protocol, step)["moved"] == 1


def test_every_step_of_the_tasks_asked_for_is_explained_and_no_other(protocol: Protocol) -> None:
    first, _ = submitted(protocol, "a > b")
    second = protocol.submit()
    protocol.submit()
    rows = protocol.rows("select task_id, name from tasker.step_readiness(%s)", [[first, second]])
    expected = [(task, name) for task in sorted((first, second)) for name in ("a", "b")]
    assert [(row["task_id"], row["name"]) for row in rows] == expected


def test_a_task_that_does_not_exist_has_no_steps(protocol: Protocol) -> None:
    assert readiness(protocol, UUID(int=0)) == {}


def test_an_enqueued_step_is_ready_and_its_message_is_out(protocol: Protocol) -> None:
    task, _ = submitted(protocol, "a > b")
    a = readiness(protocol, task)["a"]
    assert a["dependencies_satisfied"]
    assert a["retry_eligible"]
    assert a["ready_for_execution"]
    assert (a["parents_total"], a["parents_satisfied"], a["blocking_parents"]) == (0, 0, [])
    assert (a["handler"], a["queue"], a["max_attempts"]) == (HANDLER, "celery", 3)
    assert (a["since"], a["at"]) == (protocol.now, protocol.now)
    assert a["blocking_reasons"] == ["message_out"]


def test_a_step_waits_for_its_open_parents_which_are_named_with_their_states(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b, c > d")
    protocol.complete(steps["a"])
    protocol.claim(steps["b"])
    d = readiness(protocol, task)["d"]
    assert (d["parents_total"], d["parents_satisfied"]) == (3, 1)
    assert d["blocking_parents"] == [
        {"name": "b", "state": "in_progress"},
        {"name": "c", "state": "enqueued"},
    ]
    assert not d["dependencies_satisfied"]
    assert not d["ready_for_execution"]
    assert d["blocking_reasons"] == ["parents_open"]


def test_failed_parents_come_first_and_no_more_than_ten_are_named(protocol: Protocol) -> None:
    parents = [f"p{number}" for number in range(12)]
    task, steps = submitted(protocol, f"{','.join(parents)} > end")
    protocol.fail(steps["p7"], permanent=True)
    end = readiness(protocol, task)["end"]
    assert end["blocking_reasons"] == ["parent_failed", "parents_open"]
    assert [parent["name"] for parent in end["blocking_parents"]] == ["p7", *parents[:7], *parents[8:10]]


@pytest.mark.parametrize("finish", [skip, resolve])
def test_a_parent_finished_by_an_operator_satisfies(
    protocol: Protocol, finish: Callable[[Protocol, int], Reply]
) -> None:
    task, steps = submitted(protocol, "a > b")
    finish(protocol, steps["a"])
    rows = readiness(protocol, task)
    assert rows["a"]["blocking_reasons"] == []
    assert rows["b"]["dependencies_satisfied"]
    assert rows["b"]["ready_for_execution"]


def test_a_running_step_names_its_worker_and_since_when(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    protocol.pass_time(2)
    protocol.claim(steps["a"])
    protocol.pass_time(3)
    a = readiness(protocol, task)["a"]
    assert (a["worker_id"], a["worker_host"], a["worker_pid"]) == (protocol.worker, "host", 1)
    assert a["at"] - a["since"] == timedelta(seconds=3)
    assert a["blocking_reasons"] == ["running"]
    assert not a["ready_for_execution"]


@pytest.mark.parametrize("stopped", ["child", "main"])
def test_a_step_whose_worker_was_stopped_is_not_running(protocol: Protocol, stopped: str) -> None:
    task, steps = submitted(protocol, "a")
    child = protocol.register_worker(parent=protocol.worker, kind="child", queues=(), handlers=())
    protocol.claim(steps["a"], worker=child)
    assert reasons(protocol, task) == {"a": ["running"]}
    stop(protocol, child if stopped == "child" else protocol.worker)
    assert reasons(protocol, task) == {"a": ["worker_stopped"]}


def test_a_failure_with_attempts_left_backs_off_until_its_retry(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    protocol.fail(steps["a"], type="RetryableError", message="gateway busy")
    a = readiness(protocol, task)["a"]
    assert a["blocking_reasons"] == ["back_off"]
    assert (a["next_retry_at"], a["due_at"]) == (protocol.now + timedelta(seconds=1),) * 2
    assert (a["failures"], a["error_type"], a["error_message"]) == (1, "RetryableError", "gateway busy")
    assert a["retry_eligible"]
    assert not a["ready_for_execution"]


def test_a_retry_whose_time_has_come_is_overdue_and_ready_for_execution(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    protocol.fail(steps["a"])
    protocol.pass_time(1)
    a = readiness(protocol, task)["a"]
    assert a["blocking_reasons"] == ["overdue"]
    assert a["ready_for_execution"]


def test_a_step_on_its_last_attempt_is_not_eligible_for_another(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    eligible = []
    for _ in range(3):
        won = protocol.claim(steps["a"])
        eligible.append(readiness(protocol, task)["a"]["retry_eligible"])
        protocol.finish(won.fail())
        protocol.pass_time(10)
        protocol.due()
    assert eligible == [True, True, False]


def test_a_step_failed_for_good_waits_for_an_operator(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    protocol.fail(steps["a"], permanent=True, type="PermanentError", message="no such card")
    a = readiness(protocol, task)["a"]
    assert a["blocking_reasons"] == ["failed"]
    assert (a["error_type"], a["error_message"]) == ("PermanentError", "no such card")
    assert a["failed_because"] == "permanent"
    letter = protocol.row("select id, fingerprint from tasker.dead_letters")
    assert (a["letter_id"], a["fingerprint"]) == (letter["id"], letter["fingerprint"])
    assert (a["retry_eligible"], a["ready_for_execution"]) == (False, False)


def test_a_step_that_killed_its_workers_says_so(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    for _ in ("in company", "alone"):
        worker = protocol.register_worker()
        protocol.claim(steps["a"], worker=worker)
        stop(protocol, worker)
        recover(protocol, max_losses=1)
    assert reasons(protocol, task) == {"a": ["worker_lost"]}


def test_a_step_that_was_never_claimed_says_so(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    park_unclaimable(protocol, steps["a"])
    assert reasons(protocol, task) == {"a": ["unclaimable"]}


def test_why_a_step_failed_is_its_last_failure(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    park_unclaimable(protocol, steps["a"])
    retry(protocol, steps["a"])
    assert readiness(protocol, task)["a"]["failed_because"] is None
    protocol.fail(steps["a"], permanent=True)
    a = readiness(protocol, task)["a"]
    assert (a["failed_because"], a["blocking_reasons"]) == ("permanent", ["failed"])


def test_a_parked_step_says_so_and_its_child_that_a_parent_failed(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a > b")
    park_by_hand(protocol, steps["a"])
    assert reasons(protocol, task) == {"a": ["parked"], "b": ["parent_failed", "parents_open"]}
    assert readiness(protocol, task)["a"]["error_message"] == REASON


def test_a_long_error_is_cut(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a")
    protocol.fail(steps["a"], message="x" * 10_000)
    assert readiness(protocol, task)["a"]["error_message"] == "x" * 500


def test_a_task_that_starts_later_holds_all_its_steps(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit(run_after_ms=60_000)
    rows = readiness(protocol, task)
    assert rows["a"]["blocking_reasons"] == ["task_not_started"]
    assert rows["a"]["due_at"] == protocol.now + timedelta(seconds=60)
    assert rows["a"]["next_retry_at"] is None
    assert rows["b"]["blocking_reasons"] == ["parents_open", "task_not_started"]
    protocol.pass_time(60)
    assert reasons(protocol, task)["a"] == ["task_not_started", "overdue"]


def test_a_paused_task_holds_what_does_not_run_yet(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a, b, c > d")
    protocol.claim(steps["a"])
    won = protocol.claim(steps["b"])
    protocol.pause_task(task)
    protocol.release(won)
    assert reasons(protocol, task) == {
        "a": ["running"],
        "b": ["task_paused"],
        "c": ["task_paused", "message_out"],
        "d": ["parents_open", "task_paused"],
    }
    assert not readiness(protocol, task)["c"]["ready_for_execution"]


def test_a_step_is_held_with_its_queue(protocol: Protocol) -> None:
    assert protocol.worker
    protocol.register("a")
    protocol.pause_queue()
    task = protocol.submit()
    assert reasons(protocol, task) == {"a": ["queue_paused"]}
    assert not readiness(protocol, task)["a"]["ready_for_execution"]
    protocol.resume_queue()
    protocol.close_gate()
    assert reasons(protocol, task) == {"a": ["queue_gated"]}
    assert not readiness(protocol, task)["a"]["ready_for_execution"]
    protocol.open_gate()
    assert reasons(protocol, task) == {"a": ["undispatched"]}
    assert readiness(protocol, task)["a"]["ready_for_execution"]


def test_a_closed_gate_does_not_hold_a_step_whose_message_is_out(protocol: Protocol) -> None:
    task, _ = submitted(protocol, "a")
    protocol.close_gate()
    a = readiness(protocol, task)["a"]
    assert (a["blocking_reasons"], a["ready_for_execution"]) == (["message_out"], True)


def test_a_step_whose_queue_nobody_serves_says_so(protocol: Protocol) -> None:
    task, _ = submitted(protocol, "a", queue="reports")
    assert reasons(protocol, task) == {"a": ["no_worker_for_queue", "message_out"]}
    worker = protocol.register_worker(queues=("reports",))
    assert reasons(protocol, task) == {"a": ["message_out"]}
    stop(protocol, worker)
    assert reasons(protocol, task) == {"a": ["no_worker_for_queue", "message_out"]}


def test_a_step_whose_handler_no_worker_of_its_queue_has_says_so(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a", handler="other")
    protocol.register_worker(queues=("elsewhere",), handlers=("other",))
    assert reasons(protocol, task) == {"a": ["no_worker_for_handler", "message_out"]}
    protocol.claim(steps["a"])
    a = readiness(protocol, task)["a"]
    assert a["blocking_reasons"] == ["no_worker_for_handler", "given_back"]
    assert a["due_at"] == protocol.now + timedelta(seconds=1)
    protocol.register_worker(handlers=("other",))
    assert reasons(protocol, task) == {"a": ["given_back"]}


def test_a_lost_wake_up_shows_though_the_counter_hides_it(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a > b")
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute(
            "update tasker.steps set parents_left = 1 where id = %s",
            [steps["b"]],
        )
        protocol.connection.execute("update tasker.steps set state = 'complete' where id = %s", [steps["a"]])
        b = readiness(protocol, task)["b"]
    assert b["dependencies_satisfied"]
    assert b["ready_for_execution"]
    assert b["blocking_reasons"] == ["wake_up_lost"]


def test_a_held_step_that_no_loop_would_find_is_a_lost_wake_up(protocol: Protocol) -> None:
    task, _ = submitted(protocol, "a")
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute("update tasker.steps set state = 'ready', enqueued_at = null")
        assert reasons(protocol, task) == {"a": ["wake_up_lost"]}


def test_a_timer_of_a_started_task_is_named_until_it_is_due(protocol: Protocol) -> None:
    task, _ = submitted(protocol, "a")
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute(
            "update tasker.steps set state = 'waiting', enqueued_at = null, run_after = %s",
            [protocol.now + timedelta(seconds=5)],
        )
        assert reasons(protocol, task) == {"a": ["timer"]}
        protocol.pass_time(5)
        assert reasons(protocol, task) == {"a": ["overdue"]}


def test_nothing_blocks_a_final_step(protocol: Protocol) -> None:
    task, steps = submitted(protocol, "a > b")
    protocol.complete(steps["a"])
    cancel(protocol, task)
    assert reasons(protocol, task) == {"a": [], "b": []}
    assert not any(row["ready_for_execution"] for row in readiness(protocol, task).values())


def recomputed(parents: dict[str, list[str]], states: dict[str, str]) -> dict[str, tuple[int, int]]:
    """(parents, satisfied ones) of each step, from the graph and the states alone."""
    return {
        name: (len(above), sum(states[parent] in SATISFYING for parent in above))
        for name, above in parents.items()
    }


def random_graph(random: Random, size: int) -> str:
    """A graph in the notation of `graph`, each step with up to four earlier ones as parents."""
    chains = []
    for number in range(size):
        parents = random.sample(range(number), min(number, random.randint(0, 4)))
        above = ", ".join(f"s{parent}" for parent in parents)
        chains.append(f"{above} > s{number}" if above else f"s{number}")
    return "; ".join(chains)


@pytest.mark.parametrize("seed", range(4))
def test_readiness_agrees_with_a_plain_recomputation_at_every_point_of_a_run(
    protocol: Protocol, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - to be repeated
    notation = random_graph(random, 15)
    task, steps = submitted(protocol, notation)
    names = {step: name for name, step in steps.items()}
    for _ in range(60):
        states, rows = protocol.states(task), readiness(protocol, task)
        found = {name: (row["parents_total"], row["parents_satisfied"]) for name, row in rows.items()}
        assert found == recomputed(graph(notation), states)
        for name, row in rows.items():
            assert row["dependencies_satisfied"] == (row["parents_total"] == row["parents_satisfied"])
            assert (row["blocking_reasons"] == []) == (states[name] in FINAL)
            assert row["ready_for_execution"] == (states[name] == "enqueued")
        enqueued = [step for step, name in names.items() if states[name] == "enqueued"]
        unfinished = [step for step, name in names.items() if states[name] not in FINAL]
        if not unfinished:
            break
        match random.choice(["complete", "complete", "fail", "skip", "resolve"]):
            case "complete" if enqueued:
                protocol.complete(random.choice(enqueued))
            case "fail" if enqueued:
                protocol.fail(random.choice(enqueued), permanent=random.random() < 0.5, retry_after_ms=10_000)
            case "skip":
                skip(protocol, random.choice(unfinished))
            case "resolve":
                resolve(protocol, random.choice(unfinished))
            case _:
                pass
