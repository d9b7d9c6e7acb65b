"""PostgreSQL crashes and comes back: nothing is lost, nothing runs twice, nobody is taken for dead."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasker import Task
from tasker.db.migrate import migrate
from tasker.dev.postgres import start_postgres
from tasker.orchestration import client
from tasker.worker import process
from tests.acceptance.system import APPS, RECOVERY_THRESHOLDS, System, Worker, eventually
from tests.conftest import postgres_bin_dir, postgres_major

LEDGER = f"{APPS}.ledger"
CONCURRENCY = 2
PERIOD_SECONDS = 30
TASKS_A_PERIOD = 150
STEPS = 8
"""Of each task of the ledger application."""


class Crashing:
    """A PostgreSQL server of this test alone, durable, that can be made to crash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()

    def start(self) -> str:
        """Start it, recovering what it had; its URL, always the same."""
        version = postgres_major()
        server = start_postgres(self._folder, version=version, bin_dir=postgres_bin_dir(version))
        return self._running.enter_context(server)

    def crash(self) -> None:
        """What `pg_ctl stop -m immediate` does: every session ends at once, nothing is written any more."""
        pid_file = next(self._folder.glob("postgres-*/postmaster.pid"))
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGQUIT)
        self._running.close()

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def postgres(temp: Path) -> Iterator[Crashing]:
    server = Crashing(temp / "servers")
    yield server
    server.stop()


@pytest.fixture
def outages(postgres: Crashing, redis_url: str, tmp_path: Path) -> Iterator[tuple[System, Worker]]:
    """A system on a PostgreSQL that may crash, with one worker."""
    url = postgres.start()
    migrate(url)
    with (
        System(url, redis_url, tmp_path, RECOVERY_THRESHOLDS) as system,
        system.worker(LEDGER, "--concurrency", str(CONCURRENCY)) as worker,
    ):
        yield system, system.ready(worker)


def ledger(system: System) -> list[str]:
    """Every effect that a step has had, by its idempotency key."""
    found = system.folder / "ledger"
    return found.read_text().split() if found.exists() else []


def crash_in_the_middle(system: System, postgres: Crashing, seconds: float) -> int:
    """Take PostgreSQL away for so long; how many steps had their effects while it was away."""
    had = len(ledger(system))
    eventually(lambda: len(ledger(system)) > had + STEPS, "steps run")
    postgres.crash()
    before = len(ledger(system))
    time.sleep(seconds)  # the outage itself
    during = len(ledger(system)) - before
    postgres.start()
    return during


def assert_each_step_ran_once(system: System, tasks: list[Task]) -> None:
    """Every task is complete, every step has one effect; what was not begun may have been given back."""
    assert [system.settled(task) for task in tasks] == ["complete"] * len(tasks)
    query = "select task_id || '/' || name from tasker.steps where task_id = any(%s)"
    steps = [step for (step,) in system.rows(query, [task.id for task in tasks])]
    assert sorted(ledger(system)) == sorted(steps)
    ended = {outcome for (outcome,) in system.rows("select distinct outcome from tasker.step_attempts")}
    assert ended <= {"complete", "released"}
    assert len(steps) == STEPS * len(tasks)
    assert system.violations() == []


def assert_nobody_was_taken_for_dead(system: System) -> None:
    stopped = "select id, kind, stopped_because from tasker.workers where stopped_at is not null"
    assert system.rows(stopped) == []
    assert system.one("select count(*) from tasker.workers") <= 1 + CONCURRENCY


def assert_connections_are_those_of_the_page(system: System) -> None:
    """docs/deploying.md says how many a worker of this concurrency and an application hold at most."""
    worker = process.CONNECTIONS + 1 + process.CONNECTIONS * CONCURRENCY
    held = "select count(*) from pg_stat_activity where application_name like 'tasker%%'"
    assert 0 < system.one(held) <= worker + client.CONNECTIONS


@pytest.mark.parametrize(
    "seconds", [pytest.param(2.5, id="seconds"), pytest.param(60, id="a-minute", marks=pytest.mark.slow)]
)
def test_a_crash_of_postgresql_in_the_middle_of_the_work_loses_nothing_and_repeats_nothing(
    outages: tuple[System, Worker], postgres: Crashing, seconds: float
) -> None:
    system, worker = outages
    tasks = system.tasker.submit_many([("ledger/fan", None)] * 12)
    during = crash_in_the_middle(system, postgres, seconds)
    system.reconnect()
    # each process went on with what it had claimed, and took nothing more
    assert during <= CONCURRENCY * system.tasker.settings.batch_max_steps
    assert_each_step_ran_once(system, tasks)
    assert_nobody_was_taken_for_dead(system)
    assert_connections_are_those_of_the_page(system)
    assert "finished steps are held" in worker.log.read_text()


@pytest.mark.slow
def test_a_postgresql_that_crashes_every_half_minute_loses_nothing_and_repeats_nothing(
    outages: tuple[System, Worker], postgres: Crashing
) -> None:
    """TASKER_TEST_OUTAGE_MINUTES says for how long; a minute by default."""
    system, _ = outages
    crashes = max(2, round(float(os.environ.get("TASKER_TEST_OUTAGE_MINUTES", "1")) * 60 / PERIOD_SECONDS))
    tasks: list[Task] = []
    for _ in range(crashes):
        began = time.monotonic()
        tasks += system.tasker.submit_many([("ledger/fan", None)] * TASKS_A_PERIOD)
        crash_in_the_middle(system, postgres, 2.5)
        system.reconnect()
        time.sleep(max(0.0, began + PERIOD_SECONDS - time.monotonic()))  # the pace itself
    assert_each_step_ran_once(system, tasks)
    assert_nobody_was_taken_for_dead(system)
