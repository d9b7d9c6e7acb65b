"""Each invariant is broken once by hand; `cases` names them all, which the first test proves."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from tasker.domain.packaged import packaged_folder
from tasker.domain.states import STEP_MOVES, TASK_MOVES
from tests.sql.actions import skip
from tests.sql.protocol import Connection, Protocol
from tests.sql.soundness import FIRST_STATES

GRAPH = "a > b > c; d; e; f > g"

TASK = [
    ("task_counters", "{task}", "update tasker.tasks set steps_open = steps_open - 1 where id = '{task}'"),
    ("task_counters", "{task}", "update tasker.tasks set steps_total = 9 where id = '{task}'"),
    ("final_task_is_closed", "{task}", "update tasker.tasks set state = 'cancelled' where id = '{task}'"),
    ("open_task_has_steps_open", "{done}", "update tasker.tasks set state = 'paused' where id = '{done}'"),
    ("task_can_move", "{later}", "update tasker.steps set state = 'pending' where task_id = '{later}'"),
    ("task_in_error", "{task}", "update tasker.tasks set state = 'error' where id = '{task}'"),
    ("task_run_after", "{task}", "update tasker.tasks set run_after = now() where id = '{task}'"),
    ("task_run_after", "{later}", "update tasker.tasks set run_after = null where id = '{later}'"),
    ("task_finished_at", "{task}", "update tasker.tasks set finished_at = now() where id = '{task}'"),
    ("task_finished_at", "{done}", "update tasker.tasks set finished_at = null where id = '{done}'"),
    (
        "idempotency_key",
        "tests/graph",
        "drop index tasker.tasks_idempotency; update tasker.tasks set idempotency_key = 'key'",
    ),
]
STEP = [
    ("parents_left", "c", "update tasker.steps set parents_left = 2 where id = {c}"),
    ("wake_up_lost", "f", "update tasker.steps set state = 'pending', enqueued_at = null where id = {f}"),
    (
        "started_before_parents",
        "c",
        "update tasker.steps set state = 'enqueued', enqueued_at = now() where id = {c}",
    ),
    (
        "held_without_return",
        "f",
        "update tasker.steps set state = 'ready', enqueued_at = null where id = {f}",
    ),
    ("enqueued_at", "f", "update tasker.steps set enqueued_at = null where id = {f}"),
    ("enqueued_at", "b", "update tasker.steps set enqueued_at = now() where id = {b}"),
    ("ready_at", "b", "update tasker.steps set ready_at = now() where id = {b}"),
    ("start_by", "b", "update tasker.steps set start_by = now() where id = {b}"),
    ("start_by", "f", "update tasker.steps set start_within_ms = 1 where id = {f}"),
    ("run_after", "d", "update tasker.steps set run_after = null where id = {d}"),
    ("run_after", "a", "update tasker.steps set run_after = now() where id = {a}"),
    ("claim", "b", "update tasker.steps set worker_id = null where id = {b}"),
    ("failures", "e", "update tasker.steps set failures = 4 where id = {e}"),
    ("definition", "c", "delete from tasker.template_steps where name = 'c'"),
    ("queue", "f", "update tasker.steps set queue = 'nowhere' where id = {f}"),
]
ATTEMPT = [
    ("in_progress_has_its_attempt", "b", "delete from tasker.step_attempts where step_id = {b}"),
    (
        "in_progress_has_its_attempt",
        "b",
        "update tasker.steps set claim_id = gen_random_uuid() where id = {b}",
    ),
    (
        "open_attempt_has_its_step",
        "a",
        "update tasker.step_attempts set finished_at = null, outcome = null where step_id = {a}",
    ),
    ("attempts_contiguous", "a", "update tasker.steps set attempt = 2 where id = {a}"),
    ("attempts_contiguous", "a", "update tasker.step_attempts set attempt = 2 where step_id = {a}"),
    ("attempt_outcome", "a", "update tasker.step_attempts set outcome = null where step_id = {a}"),
    (
        "claim_wins_once",
        "a",
        (
            "insert into tasker.step_attempts (step_id, attempt, claim_id, claimed_at, finished_at, outcome)"
            " select step_id, 2, claim_id, now(), now(), 'lost' from tasker.step_attempts where step_id = {a}"
        ),
    ),
    (
        "completes_once",
        "a",
        (
            "insert into tasker.step_attempts (step_id, attempt, claim_id, claimed_at, finished_at, outcome)"
            " values ({a}, 2, gen_random_uuid(), now(), now(), 'complete')"
        ),
    ),
    (
        "complete_by_its_last_attempt",
        "a",
        "update tasker.step_attempts set outcome = 'lost' where step_id = {a}",
    ),
    (
        "complete_by_its_last_attempt",
        "e",
        "update tasker.step_attempts set outcome = 'complete' where step_id = {e}",
    ),
    (
        "attempt_of_no_step",
        "step 0, attempt 1",
        (
            "insert into tasker.step_attempts (step_id, attempt, claim_id, claimed_at)"
            " values (0, 1, gen_random_uuid(), now())"
        ),
    ),
]
LETTER = [
    ("error_has_its_letter", "e", "delete from tasker.dead_letters where step_id = {e}"),
    ("error_has_its_letter", "e", "update tasker.dead_letters set closed_at = now() where step_id = {e}"),
    ("open_letter_has_its_error", "a", "update tasker.dead_letters set step_id = {a}"),
    ("open_letter_has_its_error", "step 0", "update tasker.dead_letters set step_id = 0"),
]
LOG = [
    ("log_chain", "b", "delete from tasker.transitions where step_id = {b} and from_state = 'pending'"),
    ("log_chain", "{task}", "update tasker.transitions set from_state = 'pending' where step_id is null"),
    (
        "log_move",
        "a",
        (
            "insert into tasker.transitions (task_id, step_id, from_state, to_state, at) values"
            " ('{task}', {a}, 'complete', 'in_progress', now()),"
            " ('{task}', {a}, 'in_progress', 'complete', now())"
        ),
    ),
    ("log_move", "{task}", "update tasker.transitions set to_state = 'error' where step_id is null"),
    ("log_ends_in_state", "b", "delete from tasker.transitions where step_id = {b} and attempt = 1"),
    ("log_ends_in_state", "{task}", "update tasker.tasks set state = 'paused' where id = '{task}'"),
    ("log_missing", "f", "delete from tasker.transitions where step_id = {f}"),
    ("log_missing", "{task}", "delete from tasker.transitions where step_id is null"),
    (
        "log_of_nothing",
        "{done}/a",
        (
            "insert into tasker.transitions (task_id, step_id, to_state, at)"
            " values ('{done}', {a}, 'ready', now())"
        ),
    ),
    (
        "log_of_nothing",
        r"seq \d+",
        "insert into tasker.transitions (task_id, to_state, at) values (gen_random_uuid(), 'pending', now())",
    ),
]
GRAPHS = [
    (
        "edge_in_one_task",
        "g",
        "insert into tasker.step_edges select id, {g} from tasker.steps where name = 'a'",
    ),
    ("edge_has_ends", "g", "insert into tasker.step_edges values (0, {g})"),
    ("edge_has_ends", "step 0", "insert into tasker.step_edges values ({a}, 0)"),
    ("acyclic", "b", "insert into tasker.step_edges values ({c}, {b})"),
    ("acyclic", "f", "insert into tasker.step_edges values ({f}, {f})"),
]
CASES = [*TASK, *STEP, *ATTEMPT, *LETTER, *LOG, *GRAPHS]


class World(NamedTuple):
    """A database in which tasks stand in all kinds of places; nothing in it is wrong yet."""

    protocol: Protocol
    task: UUID
    names: dict[str, Any]

    def violations(self, since: object = None) -> list[tuple[str, str]]:
        """The rows of invariant_violations without their details."""
        rows = self.protocol.rows("select * from tasker.invariant_violations(%s)", [since])
        assert all(row["detail"] for row in rows)
        return [(row["invariant"], row["entity"]) for row in rows]

    def break_by(self, statements: str) -> None:
        """Run SQL in which `{task}`, `{done}`, `{later}` and the task's step names stand for ids."""
        self.protocol.connection.execute(statements.format(**self.names))


@pytest.fixture
def world(session: Connection) -> World:
    protocol = Protocol(session)
    protocol.register(GRAPH)
    done = protocol.submit()
    while enqueued := [
        step for step in protocol.steps(done).values() if protocol.step(step)["state"] == "enqueued"
    ]:
        protocol.complete(*enqueued)
    later = protocol.submit(run_after_ms=60_000)
    task = protocol.submit()
    steps = protocol.steps(task)
    protocol.complete(steps["a"])
    protocol.claim(steps["b"])
    protocol.fail(steps["d"])
    protocol.fail(steps["e"], permanent=True)
    made = World(protocol, task, {"task": task, "done": done, "later": later, **steps})
    assert made.violations() == []
    return made


def test_every_invariant_that_a_file_lists_is_broken_below() -> None:
    files = packaged_folder("sql").glob("functions/*_violations.sql")
    listed = {name for file in files for name in re.findall(r"^--   (\w+)", file.read_text(), re.MULTILINE)}
    assert listed == {invariant for invariant, _, _ in CASES}


@pytest.mark.parametrize(("invariant", "entity", "statements"), CASES, ids=[case[0] for case in CASES])
def test_what_breaks_an_invariant_is_found_and_named(
    world: World, invariant: str, entity: str, statements: str
) -> None:
    world.break_by(statements)
    named = f"{world.task}/{entity}" if entity in world.names else entity.format(**world.names)
    assert [found for found in world.violations() if found[0] == invariant and re.fullmatch(named, found[1])]


def test_tasks_that_finished_before_the_time_given_are_left_out(world: World) -> None:
    world.protocol.pass_time(60)
    world.break_by("update tasker.tasks set steps_total = 9")
    broken = [
        ("task_counters", str(task)) for task in sorted(world.names[name] for name in ("task", "later"))
    ]
    assert sorted(world.violations(world.protocol.now)) == broken
    assert len(world.violations(world.protocol.now - timedelta(seconds=60))) == 3


def test_rows_of_no_task_are_looked_for_only_when_everything_is(world: World) -> None:
    world.break_by("insert into tasker.step_edges values (0, 0)")
    assert world.violations(world.protocol.now) == []
    assert world.violations() == [("edge_has_ends", "step 0")]


def test_steps_finished_by_hand_and_cancelled_tasks_are_sound(world: World) -> None:
    skip(world.protocol, world.names["c"], world.names["f"])
    assert world.violations() == []


def test_the_pack_is_stable_throughout_and_so_sees_one_snapshot(session: Connection) -> None:
    rows = session.execute(
        "select distinct provolatile from pg_proc where pronamespace = 'tasker'::regnamespace"
        " and (proname like '%\\_violations' or proname = 'dependency_levels')"
    )
    assert rows.fetchall() == [("s",)]


def test_the_legal_moves_are_those_of_the_table_of_moves(session: Connection) -> None:
    rows = session.execute("select entity, from_state, to_state from tasker.legal_moves()").fetchall()
    table = {
        *(("step", move.source, move.target) for move in STEP_MOVES),
        *(("task", move.source, move.target) for move in TASK_MOVES),
        *(("task", None, state) for state in FIRST_STATES["tasks"]),
        *(("step", None, state) for state in FIRST_STATES["steps"] - {"pending"}),
    }
    assert set(rows) == table
    assert len(rows) == len(table)
