from __future__ import annotations

from time import perf_counter
from uuid import UUID, uuid4

from tasker.domain import graph as oracle
from tests.sql.protocol import Connection, Protocol, graph

LAYERS, WIDTH = 1000, 10
SECONDS = 3.0
"""It takes 0.05 s; a way that visits a step for each path to it would not end in this century."""


def levels(protocol: Protocol, task: UUID) -> list[tuple[str, int | None]]:
    """The rows of dependency_levels as (name, level)."""
    rows = protocol.rows("select name, level from tasker.dependency_levels(%s)", [task])
    return [(row["name"], row["level"]) for row in rows]


def layered_task(protocol: Protocol) -> UUID:
    """A task of 10 000 steps, `<layer>_<place>`, each with all steps of the layer above as parents."""
    template = protocol.register("a")
    task = uuid4()
    protocol.connection.execute(
        """
        with task as (
            insert into tasker.tasks (
                id, template_id, namespace, name, state, priority, context, correlation_id, request_digest,
                created_at, steps_total, steps_open, steps_active, steps_failed)
            values (%(task)s, %(template)s, 'tests', 'graph', 'in_progress', 0, '{}', %(task)s, '',
                tasker.clock(), %(steps)s, %(steps)s, %(width)s, 0)
        ),
        step as (
            insert into tasker.steps (
                task_id, template_id, ordinal, name, queue, priority, state, parents_left, changed_at)
            select %(task)s, %(template)s, n, (n / %(width)s) || '_' || (n %% %(width)s), 'celery', 0,
                'pending', 0, tasker.clock()
            from generate_series(0, %(steps)s - 1) n
            returning id, ordinal
        )
        insert into tasker.step_edges (parent_id, child_id)
        select parent.id, child.id
        from step parent
        join step child on child.ordinal / %(width)s = parent.ordinal / %(width)s + 1
        """,
        {"task": task, "template": template, "width": WIDTH, "steps": LAYERS * WIDTH},
    )
    return task


def test_a_step_is_one_below_the_lowest_of_its_parents(protocol: Protocol) -> None:
    notation = "a > b > c > e; a > d; d > e; b > d; e, a > f; g"
    protocol.register(notation)
    found = levels(protocol, protocol.submit())
    expected = oracle.levels(graph(notation))
    assert found == [(name, level) for level, names in enumerate(expected) for name in names]


def test_edges_of_other_tasks_do_not_matter(protocol: Protocol) -> None:
    protocol.register("a > b")
    protocol.submit()
    task = protocol.submit()
    assert levels(protocol, task) == [("a", 0), ("b", 1)]


def test_steps_on_a_cycle_and_behind_one_have_no_level(protocol: Protocol) -> None:
    protocol.register("a > b > c > d; e")
    task = protocol.submit()
    steps = protocol.steps(task)
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute("insert into tasker.step_edges values (%s, %s)", [steps["c"], steps["b"]])
        found = levels(protocol, task)
    assert found == [("a", 0), ("e", 0), ("b", None), ("c", None), ("d", None)]


def test_a_task_that_does_not_exist_has_no_levels(protocol: Protocol) -> None:
    assert levels(protocol, UUID(int=0)) == []


def test_a_deep_graph_with_more_paths_than_atoms_in_the_world_takes_no_time(session: Connection) -> None:
    protocol = Protocol(session)
    task = layered_task(protocol)
    begun = perf_counter()
    found = levels(protocol, task)
    assert perf_counter() - begun < SECONDS
    assert found == [(f"{layer}_{place}", layer) for layer in range(LAYERS) for place in range(WIDTH)]
