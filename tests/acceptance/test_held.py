"""Paused tasks and queues under real workers, through an emptied broker and a killed worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import Queue

import pytest

from tasker import Task
from tasker.orchestration import operate
from tests.acceptance.effects import assert_settled, effects
from tests.acceptance.system import APPS, RECOVERY_THRESHOLDS, System, Worker, eventually

QUEUE = "celery"
SECONDS = 20.0
PASSED = "select min(ran_at) > %s from tasker.coordinator_loops"
QUICK = {f"TASKER_{name.upper()}": str(here) for name, (here, _) in RECOVERY_THRESHOLDS.items()}


@contextmanager
def working(system: System) -> Iterator[Worker]:
    with system.worker(f"{APPS}.halting", "--pool", "threads", "--concurrency", "2", **QUICK) as worker:
        yield system.ready(worker)


def open_gate(system: System) -> None:
    (system.folder / "open").touch()


def await_passes(system: System) -> None:
    """The coordinator has looked at everything that is due, held or lost, twice from now on."""
    for _ in range(2):
        now = system.one("select clock_timestamp()")
        eventually(partial(system.one, PASSED, now), "the coordinator passes")


def hold(system: System, what: str, task: Task) -> None:
    if what == "task":
        task.pause("bank is closed")
    else:
        operate.pause_queue(system.tasker.engine, QUEUE, actor="ann", reason="bank is closed")


def let_go(system: System, what: str, task: Task) -> None:
    if what == "task":
        task.resume()
    else:
        operate.resume_queue(system.tasker.engine, QUEUE)


@pytest.mark.parametrize("what", ["task", pytest.param("queue", marks=pytest.mark.slow)])
def test_a_hold_outlives_the_broker_and_the_worker_and_then_all_goes_on(
    own_system: System, what: str
) -> None:
    with working(own_system) as worker:
        task = own_system.submit("halting/pair")
        eventually((own_system.folder / "runs").exists, "the first step runs")
        hold(own_system, what, task)
        own_system.empty_broker()
        worker.kill_group()
    open_gate(own_system)
    with working(own_system):
        eventually(
            lambda: own_system.states(task.id)["gate"] == "ready", "the step of the dead is taken back"
        )
        await_passes(own_system)
        assert own_system.states(task.id) == {"gate": "ready", "after": "pending"}
        assert not effects(own_system)
        assert "(bank is closed)" in " ".join(task.why())
        let_go(own_system, what, task)
        assert_settled(own_system, [task])


@pytest.mark.slow
def test_a_drained_queue_has_let_end_what_ran_and_begins_nothing(own_system: System) -> None:
    with working(own_system), ThreadPoolExecutor() as threads:
        tasks = own_system.tasker.submit_many([("halting/pair", None)] * 5)
        running = "select count(*) from tasker.steps where state = 'in_progress'"
        eventually(lambda: own_system.one(running) == 2, "both threads run a step")
        told: Queue[int] = Queue()
        drained = threads.submit(
            operate.drain_queue,
            own_system.tasker.engine,
            QUEUE,
            actor="ann",
            reason=None,
            timeout_seconds=SECONDS,
            tell=told.put,
        )
        assert told.get(timeout=SECONDS) == 2
        open_gate(own_system)
        found = drained.result(SECONDS)
        assert (found.running, found.paused_by) == (0, "ann")
        assert len(effects(own_system)) == 2
        await_passes(own_system)
        assert len(effects(own_system)) == 2
        operate.resume_queue(own_system.tasker.engine, QUEUE)
        assert_settled(own_system, tasks)


@pytest.mark.slow
def test_a_step_behind_busy_workers_says_what_they_run_and_that_a_cancelled_handler_has_its_place(
    own_system: System,
) -> None:
    with own_system.worker(f"{APPS}.halting", "--concurrency", "2", **QUICK) as worker:
        own_system.ready(worker)
        tasks = own_system.tasker.submit_many([("halting/pair", None)] * 2)
        running = "select count(*) from tasker.steps where state = 'in_progress'"
        eventually(lambda: own_system.one(running) == 2, "both children run a step")
        waiting = own_system.submit("halting/pair")

        def busy(with_what: str) -> bool:
            sentence = waiting.why()[0]
            return (
                "all 2 places of the workers that serve it are busy: " in sentence and with_what in sentence
            )

        eventually(lambda: all(busy(f"{task.id}/gate for ") for task in tasks), "both are named")
        tasks[0].cancel()
        eventually(lambda: busy("1 with handlers of ended attempts"), "the other handler is told of")
        open_gate(own_system)
        assert_settled(own_system, [waiting])
