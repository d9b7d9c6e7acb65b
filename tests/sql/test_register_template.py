"""register_template: what it stores, what it refuses, and registrations that meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, Protocol, definition


def stored_steps(protocol: Protocol, template: int) -> list[dict[str, object]]:
    """The rows of template_steps in order."""
    return protocol.rows(
        "select * from tasker.template_steps where template_id = %s order by ordinal", [template]
    )


def queues(protocol: Protocol, template: int) -> dict[object, object]:
    """The queue in force of each step."""
    return {row["name"]: row["queue"] for row in stored_steps(protocol, template)}


def test_a_template_is_stored_with_the_rows_that_submit_copies(protocol: Protocol) -> None:
    template = definition(
        "a > b, c > d",
        steps={
            "a": {"config": {"url": "x"}, "max_batch": 8},
            "c": {"queue": "slow", "priority": 7, "timeout_seconds": 2.5},
        },
    )
    reply = protocol.store(template)
    assert reply["created"] is True

    row = protocol.row("select * from tasker.templates where id = %s", [reply["id"]])
    assert (row["namespace"], row["name"], row["version"]) == ("tests", "graph", "1.0.0")
    assert (row["steps_total"], row["roots_total"], row["retired_at"]) == (4, 1, None)
    assert (row["definition"], row["digest"]) == (template.to_json(), template.digest)

    a, _, c, d = stored_steps(protocol, reply["id"])
    assert (a["ordinal"], a["parents"], a["queue"], a["declared_queue"]) == (0, 0, QUEUE, None)
    assert (a["config"], c["config"]) == ({"url": "x"}, None)
    assert (a["max_batch"], c["max_batch"]) == (8, None)
    assert (c["queue"], c["declared_queue"], c["priority"], c["timeout_ms"]) == ("slow", "slow", 7, 2500)
    assert (d["ordinal"], d["parents"], d["max_attempts"]) == (3, 2, 3)
    assert d["retry"] == template.steps[3].retry.to_json()
    edges = protocol.rows("select parent, child from tasker.template_edges order by parent, child")
    assert [(edge["parent"], edge["child"]) for edge in edges] == [(0, 1), (0, 2), (1, 3), (2, 3)]


def test_the_queues_it_names_are_known_from_then_on(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"queue": "slow"}})
    found = protocol.rows("select name, paused_at, gate_open from tasker.queues order by name")
    assert found == [
        {"name": QUEUE, "paused_at": None, "gate_open": True},
        {"name": "slow", "paused_at": None, "gate_open": True},
    ]


def test_a_repeat_stores_nothing(protocol: Protocol) -> None:
    template = definition("a > b")
    first = protocol.store(template)
    assert protocol.store(template) == {"id": first["id"], "created": False}
    assert len(stored_steps(protocol, first["id"])) == 2


def test_the_same_version_with_another_digest_is_refused_with_the_stored_definition(
    protocol: Protocol,
) -> None:
    template = definition("a > b")
    protocol.store(template)
    with protocol.refused("TK005") as caught:
        protocol.store(definition("a > b > c"))
    assert "tests/graph@1.0.0" in str(caught.value)
    assert json.loads(caught.value.diag.message_detail or "") == template.to_json()
    assert protocol.store(replace(definition("a > b > c"), version="1.0.1"))["created"] is True


def test_steps_without_a_queue_of_their_own_follow_the_last_registration(protocol: Protocol) -> None:
    template = definition("a, b", steps={"b": {"queue": "slow"}})
    first = protocol.store(template)["id"]
    protocol.store(template, queue="shop")
    assert queues(protocol, first) == {"a": "shop", "b": "slow"}
    assert protocol.row("select name from tasker.queues where name = 'shop'")


def test_a_registration_beside_another_of_the_same_version_waits_and_finds_it(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    template = definition("a > b")
    with first.connection.transaction():
        created = first.store(template)
        waiting = beside.start_blocked(second, first, lambda: second.store(template))
    assert waiting.result() == {"id": created["id"], "created": False}


def test_a_registration_that_waited_for_one_rolled_back_stores(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    first, second = open_session(), open_session()
    with first.connection.transaction(force_rollback=True):
        first.register("a > b")
        waiting = beside.start_blocked(second, first, lambda: second.store(definition("a")))
    reply = waiting.result()
    assert reply["created"] is True
    assert len(stored_steps(second, reply["id"])) == 1


def test_registrations_that_name_new_queues_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    holder, first, second = open_session(), open_session(), open_session()
    named = {"x": {"queue": "q3"}, "y": {"queue": "q2"}, "z": {"queue": "q1"}}
    with holder.connection.transaction(force_rollback=True):
        holder.connection.execute("insert into tasker.queues (name) values ('q2')")
        one = beside.start_blocked(first, holder, lambda: first.register("x, y, z", name="one", steps=named))
        two = beside.start(lambda: second.register("z, y, x", name="two", steps=named))
        beside.wait_until_blocked(second, two)
    assert one.result() != two.result()
