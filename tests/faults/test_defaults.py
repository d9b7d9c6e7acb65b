"""With the settings as they are shipped: how soon work goes on, and who is not taken for dead in a minute."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasker import Task
from tests.acceptance.effects import assert_settled
from tests.acceptance.system import Worker, eventually
from tests.faults.rows_handlers import MISBEHAVING
from tests.faults.rows_wires import assert_once
from tests.faults.stand import LEDGER, Stand, stopped

pytestmark = pytest.mark.slow

MINUTE = 60.0
LONG_OUTAGE = 330.0
"""Beyond the 315 s in which a step that nobody claims is published six times, and then parked."""
TASKS = 60
GROUP_SECONDS = 18.0
CHILD_SECONDS = 2.0
FLUSHED_SECONDS = 10.0


@pytest.fixture
def stand(database_url: str, tmp_path: Path) -> Iterator[Stand]:
    with Stand(database_url, tmp_path, 1, {}) as stand:
        yield stand


def taken_over(stand: Stand, pids: set[int], killed_at: float) -> float:
    """Seconds from the kill until every step that ran in `pids` had been claimed again."""
    open_then = """
        select a.step_id, a.attempt
        from tasker.step_attempts a join tasker.workers w on w.id = a.worker_id
        where w.pid = any(%s) and (a.finished_at is null or a.outcome = 'lost')
    """
    again = """
        select extract(epoch from min(claimed_at)) from tasker.step_attempts
        where step_id = %s and attempt > %s
    """
    lost = stand.rows(open_then, list(pids))
    assert lost, "a step was running there"
    eventually(lambda: all(stand.one(again, *step) for step in lost), "every step is claimed again", 30)
    return max(float(stand.one(again, *step)) for step in lost) - killed_at


def waiting_task(stand: Stand) -> Task:
    """A task whose step waits in its handler until the gate is opened."""
    task = stand.submit("misbehaving/step", {"how": "gate"})
    stand.await_state(task, "misbehave", "in_progress")
    return task


def open_the_gate(stand: Stand) -> None:
    (stand.folder / "open").touch()


def report(what: str, took: float, asked: float) -> None:
    """Say what was measured, whatever pytest does with output, and hold it against what is asked."""
    print(f"{what}: {took:.1f} s, {asked:g} s are allowed")  # noqa: T201 - shown by pytest -s
    assert took <= asked


def test_the_steps_of_a_killed_worker_run_elsewhere_in_time(stand: Stand) -> None:
    with stand.running(MISBEHAVING) as victim:
        tasks = [waiting_task(stand) for _ in range(2)]
        with stand.running(MISBEHAVING):
            pids = {victim.pid, *stand.children(victim)}
            killed_at = time.time()
            victim.kill_group()
            took = taken_over(stand, pids, killed_at)
            open_the_gate(stand)
            assert_settled(stand, tasks)
    report("worker group killed, its steps running elsewhere", took, GROUP_SECONDS)


def test_the_steps_of_a_killed_child_run_elsewhere_in_time(stand: Stand) -> None:
    with stand.running(MISBEHAVING) as worker:
        task = waiting_task(stand)
        child = stand.a_runner(worker)
        killed_at = time.time()
        os.kill(child, signal.SIGKILL)
        took = taken_over(stand, {child}, killed_at)
        open_the_gate(stand)
        assert_settled(stand, [task])
    report("child killed, its steps running elsewhere", took, CHILD_SECONDS)


def test_an_emptied_broker_is_moving_again_in_time(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans(TASKS)
        stand.await_effects()
        with stand.redis() as client:
            client.flushall()
        flushed_at = time.time()
        assert_once(stand, tasks)
    # children go on for a while with what they have in hand; after the longest rest, messages arrive again
    rests = """
        select extract(epoch from claimed_at), claimed_at - lag(claimed_at) over (order by claimed_at) as rest
        from tasker.step_attempts where claimed_at > to_timestamp(%s) order by rest desc nulls last limit 1
    """
    ((moving_at, _),) = stand.rows(rests, flushed_at)
    report("FLUSHALL, and moving again", float(moving_at) - flushed_at, FLUSHED_SECONDS)


def assert_nobody_blamed(stand: Stand) -> None:
    assert set(stand.stopped()) <= {"shutdown"}
    assert stand.losses() == 0


@pytest.mark.parametrize("what", ["workers and all", "the coordinator"])
def test_nobody_is_taken_for_dead_after_everything_stood_still_for_a_minute(stand: Stand, what: str) -> None:
    with ExitStack() as running:
        options = ("--concurrency", "2", "--no-coordinator")
        workers = [running.enter_context(stand.running(LEDGER, *options)) for _ in range(2)]
        coordinator = running.enter_context(stand.coordinator())
        still = [coordinator.pid]
        if what != "the coordinator":
            still += [pid for worker in workers for pid in (worker.pid, *stand.children(worker))]
        tasks = stand.fans(TASKS)
        stand.await_effects()
        with stopped(still):
            time.sleep(MINUTE)
        assert_once(stand, [*tasks, *stand.fans(4)])
        assert_nobody_blamed(stand)


def test_nobody_is_taken_for_dead_when_the_database_was_away_for_a_minute(stand: Stand) -> None:
    with stand.running(), stand.running():
        tasks = stand.fans(TASKS)
        stand.await_effects()
        with stand.database.away():
            time.sleep(MINUTE)
        assert_once(stand, [*tasks, *stand.fans(4)])
        assert_nobody_blamed(stand)


def test_no_step_is_parked_for_a_broker_that_was_away_for_minutes(stand: Stand) -> None:
    with stand.running(), stand.running():
        tasks = stand.fans(TASKS)
        stand.await_effects()
        with stand.broker.away():
            time.sleep(LONG_OUTAGE)
            assert any(stand.states(task.id)["join"] != "complete" for task in tasks), "work was left to do"
        assert_once(stand, tasks)
        assert stand.one("select count(*) from tasker.dead_letters") == 0
        assert_nobody_blamed(stand)


def test_a_worker_that_stood_still_for_a_minute_comes_back_and_charges_nobody(stand: Stand) -> None:
    with stand.running() as victim, stand.running():
        tasks = stand.fans(TASKS)
        stand.a_runner(victim)
        with stopped([victim.pid, *stand.children(victim)]):
            time.sleep(MINUTE)
            assert stand.stopped(), "it was taken for dead, as it had to be"
        assert_settled(stand, [*tasks, *stand.fans(4)])
        assert stand.losses() == 0
        assert victim.process.poll() is None
        eventually(lambda: registered_anew(stand, victim), "it has registered anew")


def registered_anew(stand: Stand, worker: Worker) -> bool:
    query = "select count(*) from tasker.workers where pid = %s and kind = 'main' and stopped_at is null"
    return bool(stand.one(query, worker.pid))
