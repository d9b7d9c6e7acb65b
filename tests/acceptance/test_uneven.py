"""A handler that turns slow in mid-batch, on two workers: what becomes of the steps in its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tasker.db import functions
from tests.acceptance.apps import uneven
from tests.acceptance.system import APPS, System

SLOW_SECONDS = 5.0


class Ran(NamedTuple):
    """An attempt of the task, in seconds since the batch was claimed."""

    step: int
    worker: int
    claim: object
    outcome: str
    recorded: float


@pytest.fixture
def two_workers(own_system: System) -> Iterator[System]:
    """Two workers of one process each."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(own_system.worker(f"{APPS}.uneven", "--concurrency", "1")) for _ in range(2)
        ]
        for worker in workers:
            own_system.ready(worker)
        yield own_system


def attempts(system: System, **context: Any) -> list[Ran]:
    """Run a batch whose steps are expected to be quick, and so travel in one message."""
    system.tasker.database.call(functions.record_expectations, {uneven.HANDLER: 0.1})
    task = system.submit("uneven/batch", {"seconds": SLOW_SECONDS, **context})
    assert system.settled(task) == "complete"
    query = """
        select s.ordinal, a.worker_id, a.claim_id, a.outcome,
            extract(epoch from a.finished_at - first.at)::float
        from tasker.steps s
        join tasker.step_attempts a on a.step_id = s.id
        cross join (select min(claimed_at) as at from tasker.step_attempts) first
        where s.task_id = %s
        order by s.ordinal, a.attempt
    """
    return [Ran(*row) for row in system.rows(query, task.id)]


@pytest.mark.slow
def test_one_slow_step_holds_back_no_outcome_before_it_and_those_behind_it_run_elsewhere(
    two_workers: System, record_property: Callable[[str, object], None]
) -> None:
    ran = attempts(two_workers, holds_the_interpreter=False)
    first = [each for each in ran if each.claim == ran[0].claim]
    assert [each.step for each in first] == list(range(uneven.STEPS)), "they were claimed in one message"
    before, slow, behind = first[: uneven.SLOW], first[uneven.SLOW], first[uneven.SLOW + 1 :]

    assert {each.outcome for each in before} == {slow.outcome} == {"complete"}
    assert slow.recorded > SLOW_SECONDS
    recorded = max(each.recorded for each in before)
    assert recorded < SLOW_SECONDS / 4

    assert {each.outcome for each in behind} == {"released"}
    elsewhere = [each for each in ran if each.claim != slow.claim]
    assert [each.step for each in elsewhere] == [each.step for each in behind]
    assert {each.outcome for each in elsewhere} == {"complete"}
    assert slow.worker not in {each.worker for each in elsewhere}
    done = max(each.recorded for each in elsewhere)
    assert done < SLOW_SECONDS / 2
    record_property("recorded_before_seconds", recorded)
    record_property("done_elsewhere_seconds", done)


@pytest.mark.slow
def test_while_a_handler_holds_the_interpreter_its_batch_waits_and_nothing_is_lost_or_run_twice(
    two_workers: System,
) -> None:
    ran = attempts(two_workers, holds_the_interpreter=True)
    assert [each.step for each in ran if each.outcome == "complete"] == list(range(uneven.STEPS))
    assert min(each.recorded for each in ran) > SLOW_SECONDS
