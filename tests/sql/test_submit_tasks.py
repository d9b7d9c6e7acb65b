"""submit_tasks: what it creates, which template it takes, idempotency, and submits that meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, Reply, definition, published, request


def tasks_of(reply: Reply) -> list[tuple[str, bool]]:
    """(id, created) of each task a submit ended with."""
    return [(task["id"], task["created"]) for task in reply["tasks"]]


def task_count(protocol: Protocol) -> int:
    """How many tasks there are."""
    count: int = protocol.row("select count(*) from tasker.tasks")["count"]
    return count


# What it creates


def test_roots_are_enqueued_and_the_others_wait_for_their_parents(protocol: Protocol) -> None:
    protocol.register("a > b, c > d; e")
    reply = protocol.submit_all([request()])
    task = UUID(reply["tasks"][0]["id"])
    steps = protocol.steps(task)
    assert protocol.states(task) == {
        "a": "enqueued",
        "b": "pending",
        "c": "pending",
        "d": "pending",
        "e": "enqueued",
    }
    assert [protocol.step(step)["parents_left"] for step in steps.values()] == [0, 1, 1, 2, 0]
    assert protocol.counters(task) == ("in_progress", 5, 2, 0)
    assert reply["publish"] == [[QUEUE, None, None, [steps["a"], steps["e"]]]]
    assert protocol.step(steps["a"])["enqueued_at"] == START
    assert protocol.log(task) == [
        (None, None, "in_progress"),
        ("a", None, "enqueued"),
        ("e", None, "enqueued"),
    ]


def test_tasks_of_one_set_get_steps_and_edges_of_their_own(protocol: Protocol) -> None:
    protocol.register("a > b, c > d", name="diamond")
    protocol.register("x, y > z", name="join")
    names = ["diamond", "join", "join", "diamond", "join"]
    reply = protocol.submit_all([request(name) for name in names])
    assert [task["created"] for task in reply["tasks"]] == [True] * 5
    for name, task in zip(names, reply["tasks"], strict=True):
        edges = protocol.rows(
            "select p.name as parent, c.name as child from tasker.step_edges"
            " join tasker.steps p on p.id = parent_id join tasker.steps c on c.id = child_id"
            " where p.task_id = %s and c.task_id = %s order by 1, 2",
            [task["id"], task["id"]],
        )
        expected = {
            "diamond": [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")],
            "join": [("x", "z"), ("y", "z")],
        }
        assert [(edge["parent"], edge["child"]) for edge in edges] == expected[name]
    assert len(published(reply)) == 2 + 3 * 2


def test_what_to_publish_is_grouped_by_queue_and_handler_with_what_a_step_takes(protocol: Protocol) -> None:
    protocol.register(
        "a, b, c, d",
        steps={"b": {"handler": "quick"}, "c": {"queue": "slow"}, "d": {"handler": "quick"}},
    )
    protocol.expect(quick=1.5)
    reply = protocol.submit_all([request()])
    a, b, c, d = protocol.steps(UUID(reply["tasks"][0]["id"])).values()
    assert sorted(reply["publish"], key=itemgetter(3)) == [
        [QUEUE, None, None, [a]],
        [QUEUE, 1.5, None, [b, d]],
        ["slow", None, None, [c]],
    ]


def test_a_task_keeps_what_was_asked_and_its_steps_add_its_priority_to_theirs(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"priority": 3}})
    correlation, parent = uuid4(), uuid4()
    task = protocol.submit(
        context={"order": 7},
        priority=10,
        tags=["x", "y"],
        initiator="me",
        source_system="shop",
        reason="because",
        correlation_id=str(correlation),
        parent_correlation_id=str(parent),
        requested_at="2029-12-31T23:59:59Z",
    )
    row = protocol.task(task)
    assert (row["context"], row["priority"], row["tags"]) == ({"order": 7}, 10, ["x", "y"])
    assert (row["initiator"], row["source_system"], row["reason"]) == ("me", "shop", "because")
    assert (row["correlation_id"], row["parent_correlation_id"]) == (correlation, parent)
    assert (row["requested_at"], row["created_at"]) == (START - timedelta(seconds=1), START)
    assert [protocol.step(step)["priority"] for step in protocol.steps(task).values()] == [10, 13]


def test_what_was_not_asked_has_its_default(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    row = protocol.task(task)
    assert (row["priority"], row["tags"], row["correlation_id"]) == (0, [], task)
    assert (row["run_after"], row["idempotency_key"], row["finished_at"]) == (None, None, None)


def test_roots_of_a_held_queue_are_ready_and_not_published(protocol: Protocol) -> None:
    protocol.register("a, b, c", steps={"b": {"queue": "paused"}, "c": {"queue": "gated"}})
    protocol.pause_queue("paused")
    protocol.close_gate("gated")
    reply = protocol.submit_all([request()])
    task = UUID(reply["tasks"][0]["id"])
    assert protocol.states(task) == {"a": "enqueued", "b": "ready", "c": "ready"}
    assert published(reply) == [protocol.steps(task)["a"]]
    assert protocol.counters(task) == ("in_progress", 3, 3, 0)


def test_no_requests_make_no_tasks(protocol: Protocol) -> None:
    reply = protocol.submit_all([])
    assert (reply["tasks"], reply["publish"]) == ([], [])


def test_the_moves_are_reported_when_asked_for(protocol: Protocol) -> None:
    protocol.register("a > b")
    protocol.submit()
    reply = protocol.submit_all([request()], moves=True)
    task = reply["tasks"][0]["id"]
    moves = [(move["task_id"], move["template"], move["step"], move["to"]) for move in reply["moves"]]
    assert moves == [
        (task, "tests/graph", None, "in_progress"),
        (task, "tests/graph", "a", "enqueued"),
    ]
    assert protocol.submit_all([request()])["moves"] is None


def test_the_first_move_of_a_database_is_reported_too(open_session: Callable[[], Protocol]) -> None:
    protocol = open_session()
    protocol.register("a")
    reply = protocol.submit_all([request()], moves=True)
    assert [(move["step"], move["to"]) for move in reply["moves"]] == [
        (None, "in_progress"),
        ("a", "enqueued"),
    ]


# Later


@pytest.mark.parametrize("asked", [{"run_after": "2030-01-01T00:01:00Z"}, {"run_after_ms": 60_000}])
def test_a_task_for_later_is_pending_and_its_roots_wait(protocol: Protocol, asked: dict[str, Any]) -> None:
    protocol.register("a > b; c")
    reply = protocol.submit_all([request(**asked)])
    task = UUID(reply["tasks"][0]["id"])
    assert reply["tasks"][0]["state"] == "pending"
    assert protocol.states(task) == {"a": "waiting", "b": "pending", "c": "waiting"}
    assert protocol.counters(task) == ("pending", 3, 2, 0)
    due = START + timedelta(minutes=1)
    assert protocol.task(task)["run_after"] == due
    assert [protocol.step(step)["run_after"] for step in protocol.steps(task).values()] == [due, None, due]
    assert published(reply) == []


@pytest.mark.parametrize("asked", [{"run_after": "2030-01-01T00:00:00Z"}, {"run_after_ms": 0}])
def test_a_task_for_a_time_not_in_the_future_starts_at_once(
    protocol: Protocol, asked: dict[str, Any]
) -> None:
    protocol.register("a")
    task = protocol.submit(**asked)
    assert protocol.counters(task) == ("in_progress", 1, 1, 0)
    assert protocol.states(task) == {"a": "enqueued"}
    assert protocol.task(task)["run_after"] is None


# In a caller's transaction


def test_roots_submitted_in_a_callers_transaction_are_left_to_the_dispatch_loop(protocol: Protocol) -> None:
    protocol.register("a > b")
    reply = protocol.submit_all([request()], joined=True)
    task = UUID(reply["tasks"][0]["id"])
    assert protocol.states(task) == {"a": "ready", "b": "pending"}
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)
    assert published(reply) == []
    assert published(protocol.dispatch()) == [protocol.steps(task)["a"]]


def test_a_task_submitted_in_a_transaction_that_rolls_back_never_was(
    open_session: Callable[[], Protocol],
) -> None:
    protocol, other = open_session(), open_session()
    protocol.register("a > b")
    with protocol.connection.transaction():
        with protocol.connection.transaction(force_rollback=True):
            protocol.submit(joined=True)
        kept = protocol.submit(joined=True)
        assert task_count(other) == 0
        assert published(other.dispatch()) == []
    assert published(other.dispatch()) == [protocol.steps(kept)["a"]]
    for table in ("tasks", "steps", "step_edges"):
        assert protocol.row(f"select count(*) from tasker.{table}")["count"] == {"steps": 2}.get(table, 1)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_caller_may_submit_in_a_stricter_isolation_level(
    open_session: Callable[[], Protocol], level: str
) -> None:
    protocol, other = open_session(), open_session()
    protocol.register("a")
    with protocol.connection.transaction():
        protocol.connection.execute(f"set transaction isolation level {level}")
        protocol.rows("select 1 from tasker.tasks")
        task = protocol.submit(joined=True)
        elsewhere = request(idempotency_key="key")
        assert tasks_of(other.submit_all([elsewhere])) == [(elsewhere["id"], True)]
        with protocol.refused("40001"):
            protocol.submit(joined=True, idempotency_key="key")
    assert protocol.states(task) == {"a": "ready"}


# Templates


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["1.9.0", "1.10.0", "1.2.0"], "1.10.0"),
        (["2.0.0-rc.1", "2.0.0-rc.2", "1.0.0"], "2.0.0-rc.2"),
        (["2.0.0", "2.0.0-rc.2"], "2.0.0"),
        (["1.0.0", "1.0.0-alpha.9", "0.9.9"], "1.0.0"),
    ],
)
def test_without_a_version_the_newest_is_taken(protocol: Protocol, versions: list[str], newest: str) -> None:
    templates = {version: protocol.register("a", version=version) for version in versions}
    assert protocol.task(protocol.submit())["template_id"] == templates[newest]


def test_a_pinned_version_is_taken_whatever_is_newer(protocol: Protocol) -> None:
    old = protocol.register("a > b", version="1.0.0")
    protocol.register("a", version="2.0.0")
    task = protocol.submit(version="1.0.0")
    assert protocol.task(task)["template_id"] == old
    assert list(protocol.states(task)) == ["a", "b"]


def test_a_retired_version_is_neither_taken_nor_pinned(protocol: Protocol) -> None:
    old = protocol.register("a", version="1.0.0")
    protocol.register("a", version="2.0.0")
    protocol.connection.execute("update tasker.templates set retired_at = now() where version = '2.0.0'")
    assert protocol.task(protocol.submit())["template_id"] == old
    with protocol.refused("TK003") as caught:
        protocol.submit(version="2.0.0")
    assert "no active template tests/graph@2.0.0" in str(caught.value)


def test_one_unknown_template_refuses_the_whole_set(protocol: Protocol) -> None:
    protocol.register("a")
    with protocol.refused("TK003") as caught:
        protocol.submit_all([request(), request("nobody"), request()])
    assert "no active template tests/nobody" in str(caught.value)
    assert task_count(protocol) == 0


def test_a_template_stored_with_another_definition_than_the_callers_is_refused(protocol: Protocol) -> None:
    protocol.register("a > b")
    digest = definition("a > b").digest
    protocol.submit(version="1.0.0", digest=digest)
    with protocol.refused("TK005") as caught:
        protocol.submit_all([request(), request(version="1.0.0", digest="other")])
    assert json.loads(caught.value.diag.message_detail or "") == definition("a > b").to_json()
    assert task_count(protocol) == 1


# Idempotency


def test_the_same_key_and_digest_is_answered_with_the_task_that_exists(protocol: Protocol) -> None:
    protocol.register("a")
    first = request(idempotency_key="key")
    again = request(idempotency_key="key")
    assert tasks_of(protocol.submit_all([first])) == [(first["id"], True)]
    reply = protocol.submit_all([again])
    assert tasks_of(reply) == [(first["id"], False)]
    assert published(reply) == []
    assert task_count(protocol) == 1


def test_a_key_or_id_is_answered_after_its_template_was_retired_and_nothing_else_is(
    protocol: Protocol,
) -> None:
    protocol.register("a")
    first = request(idempotency_key="key")
    protocol.submit_all([first])
    protocol.connection.execute("update tasker.templates set retired_at = now()")
    again = request(idempotency_key="key")
    repeated = tasks_of(protocol.submit_all([again, first]))
    assert repeated == [(first["id"], False), (first["id"], True)]
    with protocol.refused("TK003"):
        protocol.submit_all([again, request()])
    assert task_count(protocol) == 1


def test_the_same_key_with_another_digest_refuses_the_whole_set(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit(idempotency_key="key")
    with protocol.refused("TK004") as caught:
        protocol.submit_all([request(), request(idempotency_key="key", request_digest="other")])
    assert "idempotency key key" in str(caught.value)
    assert task_count(protocol) == 1


def test_a_key_belongs_to_a_template_whatever_its_version(protocol: Protocol) -> None:
    protocol.register("a", version="1.0.0")
    protocol.register("a", name="other")
    first = protocol.submit(idempotency_key="key")
    assert protocol.submit("other", idempotency_key="key") != first
    protocol.register("a > b", version="2.0.0")
    assert protocol.submit(idempotency_key="key") == first


def test_a_key_twice_in_one_set_makes_one_task(protocol: Protocol) -> None:
    protocol.register("a > b")
    first, again, other = (request(idempotency_key=key) for key in ("key", "key", "other"))
    reply = protocol.submit_all([first, again, other])
    assert tasks_of(reply) == [(first["id"], True), (first["id"], False), (other["id"], True)]
    assert task_count(protocol) == 2
    assert len(published(reply)) == 2


def test_a_key_twice_in_one_set_with_two_digests_is_a_conflict(protocol: Protocol) -> None:
    protocol.register("a")
    with protocol.refused("TK004"):
        protocol.submit_all(
            [request(idempotency_key="key"), request(idempotency_key="key", request_digest="other")]
        )
    assert task_count(protocol) == 0


def test_a_mixed_set_is_answered_in_the_order_asked(protocol: Protocol) -> None:
    protocol.register("a")
    old = request(idempotency_key="old")
    protocol.submit_all([old])
    fresh = [request(), request()]
    reply = protocol.submit_all([fresh[0], request(idempotency_key="old"), fresh[1]])
    assert tasks_of(reply) == [(fresh[0]["id"], True), (old["id"], False), (fresh[1]["id"], True)]


def test_an_id_submitted_again_with_another_digest_is_a_conflict(protocol: Protocol) -> None:
    protocol.register("a")
    asked = request()
    protocol.submit_all([asked])
    with protocol.refused("TK004"):
        protocol.submit_all([asked | {"request_digest": "other"}])


# A reply that got lost


def test_a_repeat_returns_the_same_rows_and_creates_nothing(protocol: Protocol) -> None:
    protocol.register("a > b; c")
    asked = [request(), request(idempotency_key="key")]
    reply = protocol.submit_all(asked)
    assert protocol.submit_all(asked) == reply
    assert task_count(protocol) == 2


def test_a_repeat_publishes_only_what_still_waits_for_a_worker(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    asked = [request()]
    a, b, _ = protocol.steps(UUID(protocol.submit_all(asked)["tasks"][0]["id"])).values()
    protocol.claim(a)
    assert published(protocol.submit_all(asked)) == [b]


def test_a_repeat_beside_the_running_first_call_waits_and_returns_the_same_rows(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a > b")
    asked = [request(), request(idempotency_key="key")]
    with first.connection.transaction():
        reply = first.submit_all(asked)
        repeat = beside.start_blocked(second, first, lambda: second.submit_all(asked))
    assert repeat.result() == reply
    assert task_count(first) == 2


# Submits that meet


def test_of_two_submits_with_one_key_the_second_gets_the_firsts_task(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a")
    mine, theirs = request(idempotency_key="key"), request(idempotency_key="key")
    with first.connection.transaction():
        first.submit_all([mine])
        other = beside.start_blocked(second, first, lambda: second.submit_all([theirs]))
    assert tasks_of(other.result()) == [(mine["id"], False)]
    assert published(other.result()) == []
    assert task_count(first) == 1


def test_of_two_submits_with_one_key_and_two_digests_the_second_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a")
    conflicting = [request(), request(idempotency_key="key", request_digest="other")]
    with second.refused("TK004"):
        with first.connection.transaction():
            first.submit(idempotency_key="key")
            other = beside.start_blocked(second, first, lambda: second.submit_all(conflicting))
        other.result()
    assert task_count(first) == 1


def test_a_submit_that_waited_for_one_rolled_back_creates_its_own(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    first.register("a")
    theirs = request(idempotency_key="key", request_digest="other")
    with first.connection.transaction(force_rollback=True):
        first.submit(idempotency_key="key")
        other = beside.start_blocked(second, first, lambda: second.submit_all([theirs]))
    assert tasks_of(other.result()) == [(theirs["id"], True)]


def test_submits_of_the_same_keys_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    holder, first, second = open_session(), open_session(), open_session()
    holder.register("a")
    keys = ["k", "m", "z"]
    with holder.connection.transaction(force_rollback=True):
        holder.submit(idempotency_key="m")
        asked = [request(idempotency_key=key) for key in keys]
        one = beside.start_blocked(first, holder, lambda: first.submit_all(asked))
        again = [request(idempotency_key=key) for key in reversed(keys)]
        two = beside.start(lambda: second.submit_all(again))
        beside.wait_until_blocked(second, two)
    assert tasks_of(one.result()) == [(one_asked["id"], True) for one_asked in asked]
    assert tasks_of(two.result()) == [(one_asked["id"], False) for one_asked in reversed(asked)]


def test_a_submit_in_an_open_transaction_keeps_nobody_from_finishing(
    open_session: Callable[[], Protocol],
) -> None:
    caller, worker = open_session(), open_session()
    caller.register("a > b")
    task = caller.submit()
    won = worker.claim(caller.steps(task)["a"])
    with caller.connection.transaction():
        caller.submit(joined=True)
        worker.finish(won.complete())
        worker.complete(caller.steps(task)["b"])
    assert caller.counters(task) == ("complete", 0, 0, 0)
