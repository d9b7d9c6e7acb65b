from __future__ import annotations

from time import perf_counter
from uuid import UUID

import pytest

from tests.sql.protocol import Connection, Protocol
from tests.sql.test_dependency_levels import LAYERS, SECONDS, WIDTH, layered_task


def ancestors(protocol: Protocol, task: UUID, step: str) -> list[tuple[str, int]]:
    """The rows of transitive_dependencies as (name, distance)."""
    rows = protocol.rows("select name, distance from tasker.transitive_dependencies(%s, %s)", [task, step])
    return [(row["name"], row["distance"]) for row in rows]


def test_ancestors_are_listed_once_with_the_shortest_way_to_them(protocol: Protocol) -> None:
    protocol.register("a > b > c > d; a > d; e > c; x > y")
    task = protocol.submit()
    assert ancestors(protocol, task, "d") == [("a", 1), ("c", 1), ("b", 2), ("e", 2)]


def test_ancestors_have_their_states(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    protocol.complete(protocol.steps(task)["a"])
    rows = protocol.rows("select name, state from tasker.transitive_dependencies(%s, 'c')", [task])
    assert [(row["name"], row["state"]) for row in rows] == [("b", "enqueued"), ("a", "complete")]


@pytest.mark.parametrize("step", ["a", "unknown"])
def test_a_root_and_an_unknown_step_have_none(protocol: Protocol, step: str) -> None:
    protocol.register("a > b")
    assert ancestors(protocol, protocol.submit(), step) == []


def test_a_task_that_does_not_exist_has_none(protocol: Protocol) -> None:
    assert ancestors(protocol, UUID(int=0), "a") == []


def test_a_cycle_ends_the_walk(protocol: Protocol) -> None:
    protocol.register("a > b > c")
    task = protocol.submit()
    steps = protocol.steps(task)
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute("insert into tasker.step_edges values (%s, %s)", [steps["c"], steps["a"]])
        assert ancestors(protocol, task, "c") == [("b", 1), ("a", 2), ("c", 3)]


def test_every_edge_is_followed_once_however_many_paths_there_are(session: Connection) -> None:
    protocol = Protocol(session)
    task = layered_task(protocol)
    begun = perf_counter()
    found = ancestors(protocol, task, f"{LAYERS - 1}_0")
    assert perf_counter() - begun < SECONDS
    assert [distance for _, distance in found] == [
        distance for distance in range(1, LAYERS) for _ in range(WIDTH)
    ]
