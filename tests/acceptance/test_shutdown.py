"""Workers told to stop: what has not begun is given back at once, and nothing is left behind or charged."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM

import pytest

from tasker import Task
from tests.acceptance.effects import effects
from tests.acceptance.system import APPS, System, Worker, eventually

HALTING = f"{APPS}.halting"
SOFTLY = f"{APPS}.softly"
TASKS = 6
UNHURRIED = {
    "TASKER_RELEASE_AFTER_MS": "60000",  # 500: only the signal makes a worker give back what it holds
    "TASKER_HEARTBEAT_SECONDS": "0.1",  # 3
}
PREFORK, THREADS, SOLO = (("--pool", pool) for pool in ("prefork", "threads", "solo"))


@contextmanager
def in_the_middle(system: System, app: str, *options: str) -> Iterator[tuple[Worker, list[Task]]]:
    """A worker that has claimed all tasks' first steps in one message and runs one of them, at the gate."""
    with system.worker(app, *options, "--concurrency", "2", **UNHURRIED) as worker:
        system.ready(worker)
        system.rows("select tasker.record_expectations('{\"halting/pair.gate\": 1}')")
        tasks = system.tasker.submit_many([("halting/pair", None)] * TASKS)
        eventually((system.folder / "runs").exists, "a step runs")
        assert gates(system) == {"in_progress": TASKS}
        yield worker, tasks


def gates(system: System) -> dict[str, int]:
    """How many of the first steps are in which state."""
    return dict(system.rows("select state, count(*) from tasker.steps where name = 'gate' group by state"))


def outcomes(system: System) -> dict[str | None, int]:
    return dict(system.rows("select outcome, count(*) from tasker.step_attempts group by outcome"))


def open_gate(system: System) -> None:
    (system.folder / "open").touch()


def send(worker: Worker, *numbers: int) -> None:
    """The signals, each after the worker has said what it makes of the one before."""
    for number in numbers:
        said = worker.log.read_text().count("shutdown")
        worker.process.send_signal(number)
        eventually(
            lambda said=said: (
                worker.process.poll() is not None  # type: ignore[misc]
                or worker.log.read_text().count("shutdown") > said
            ),
            f"the worker hears signal {number}",
        )


def assert_left_in_order(system: System) -> None:
    """No worker and no attempt is left, and nobody is charged with anything."""
    assert system.one("select count(*) from tasker.workers where stopped_at is null") == 0
    assert system.one("select count(*) from tasker.step_attempts where finished_at is null") == 0
    assert system.rows("select distinct failures, losses, alone from tasker.steps") == [(0, 0, False)]


def assert_another_goes_on(system: System, tasks: Sequence[Task]) -> None:
    """Another worker completes everything; what had an effect has none again."""
    open_gate(system)
    with system.worker(HALTING, "--pool", "threads"):
        assert [system.settled(task) for task in tasks] == ["complete"] * TASKS
    had = effects(system)
    assert (len(had), set(had.values())) == (2 * TASKS, {1})


@pytest.mark.parametrize(
    "options", [PREFORK, *(pytest.param(pool, marks=pytest.mark.slow) for pool in (THREADS, SOLO))]
)
def test_a_warm_shutdown_lets_end_what_runs_and_gives_back_the_rest_at_once(
    own_system: System, options: Sequence[str]
) -> None:
    with in_the_middle(own_system, HALTING, *options) as (worker, tasks):
        send(worker, SIGTERM)
        eventually(lambda: gates(own_system) == {"in_progress": 1, "enqueued": TASKS - 1}, "the rest is back")
        free = "select free from tasker.workers where kind = 'main'"
        eventually(lambda: own_system.one(free) == 0, "the worker says that it takes no more messages")
        worker.process.send_signal(SIGTERM)
        open_gate(own_system)
        worker.process.wait(20)
    assert gates(own_system) == {"complete": 1, "enqueued": TASKS - 1}
    assert set(outcomes(own_system)) == {"complete", "released"}
    assert own_system.rows("select distinct state from tasker.steps where name = 'after'") == [
        ("enqueued",),
        ("pending",),
    ]
    assert_left_in_order(own_system)
    assert_another_goes_on(own_system, tasks)


@pytest.mark.parametrize(
    ("app", "options", "signals"),
    [
        (HALTING, SOLO, [SIGQUIT]),
        pytest.param(HALTING, PREFORK, [SIGQUIT], marks=pytest.mark.slow),
        pytest.param(HALTING, PREFORK, [SIGTERM, SIGQUIT], marks=pytest.mark.slow),
        pytest.param(HALTING, SOLO, [SIGTERM, SIGQUIT], marks=pytest.mark.slow),
        pytest.param(HALTING, SOLO, [SIGINT, SIGINT], marks=pytest.mark.slow),
        # threads cannot be interrupted: the worker waits for them until it is told once more
        pytest.param(HALTING, THREADS, [SIGQUIT, SIGQUIT], marks=pytest.mark.slow),
        pytest.param(SOFTLY, PREFORK, [SIGQUIT], marks=pytest.mark.slow),
        pytest.param(SOFTLY, SOLO, [SIGQUIT], marks=pytest.mark.slow),
    ],
)
def test_a_cold_shutdown_charges_nobody_and_leaves_nothing_behind(
    own_system: System, app: str, options: Sequence[str], signals: Sequence[signal.Signals]
) -> None:
    with in_the_middle(own_system, app, *options) as (worker, tasks):
        send(worker, *signals)
        worker.process.wait(20)
    assert gates(own_system) == {"enqueued": TASKS}
    assert outcomes(own_system)["lost"] == 1
    assert set(outcomes(own_system)) == {"lost", "released"}
    assert_left_in_order(own_system)
    assert_another_goes_on(own_system, tasks)


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_charges_nobody(own_system: System) -> None:
    with in_the_middle(own_system, HALTING, *PREFORK) as (worker, tasks):
        os.killpg(worker.pid, SIGTERM)
        worker.process.wait(20)
    assert gates(own_system) == {"enqueued": TASKS}
    assert set(outcomes(own_system)) == {"lost", "released"}
    assert_left_in_order(own_system)
    assert_another_goes_on(own_system, tasks)


@pytest.mark.slow
@pytest.mark.parametrize("options", [PREFORK, THREADS])
def test_a_soft_shutdown_records_what_ends_in_time(own_system: System, options: Sequence[str]) -> None:
    with in_the_middle(own_system, SOFTLY, *options) as (worker, tasks):
        worker.process.send_signal(SIGQUIT)
        eventually(lambda: gates(own_system) == {"in_progress": 1, "enqueued": TASKS - 1}, "the rest is back")
        open_gate(own_system)
        worker.process.wait(20)
    assert gates(own_system) == {"complete": 1, "enqueued": TASKS - 1}
    assert_left_in_order(own_system)
    assert_another_goes_on(own_system, tasks)


@pytest.mark.slow
@pytest.mark.parametrize("options", [PREFORK, THREADS, SOLO])
def test_a_worker_restarted_by_sighup_lets_end_what_runs_and_goes_on(
    own_system: System, options: Sequence[str]
) -> None:
    with in_the_middle(own_system, HALTING, *options) as (worker, tasks):
        worker.process.send_signal(SIGHUP)
        eventually(lambda: gates(own_system) == {"in_progress": 1, "enqueued": TASKS - 1}, "the rest is back")
        open_gate(own_system)
        assert [own_system.settled(task) for task in tasks] == ["complete"] * TASKS
        mains = "select pid, stopped_because from tasker.workers where kind = 'main' order by id"
        assert own_system.rows(mains) == [(worker.pid, "shutdown"), (worker.pid, None)]
        assert set(outcomes(own_system)) == {"complete", "released"}
    assert set(effects(own_system).values()) == {1}
