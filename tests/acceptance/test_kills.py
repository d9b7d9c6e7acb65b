"""kill -9 of any process, and an emptied broker, in the middle of the work: every task settles."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tasker import Task
from tasker.dev.redis import start_redis
from tests.acceptance.effects import assert_settled, effects
from tests.acceptance.system import APPS, RECOVERY_THRESHOLDS, System, Worker, eventually
from tests.conftest import Databases
from tests.processes import descendants, living

LEDGER = f"{APPS}.ledger"
STEPS = 8
"""Of each task of the ledger application."""


SystemWithOwnBroker: TypeAlias = Callable[[str, Path], AbstractContextManager[System]]


@pytest.fixture(scope="module")
def system_with_own_broker(
    databases: Databases,
    template_database: str,
    through: Callable[[str], str],
    instead_of_redis: Callable[[str, str], str],
) -> SystemWithOwnBroker:
    """The tests' broker is shared; here one may be emptied for good."""

    @contextmanager
    def opened(name: str, folder: Path) -> Iterator[System]:
        with (
            databases.make(template_database) as database_url,
            start_redis(folder / "redis", durable=False) as redis_url,
            System(
                through(database_url), instead_of_redis(name, redis_url), folder, RECOVERY_THRESHOLDS
            ) as system,
        ):
            system.empty_broker()
            yield system

    return opened


@pytest.fixture(scope="module")
def standing(
    system_with_own_broker: SystemWithOwnBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Worker]]:
    """A system and a worker in it that outlives the tests; its children may not."""
    with (
        system_with_own_broker("kills", tmp_path_factory.mktemp("kills")) as system,
        system.worker(LEDGER, "--concurrency", "2") as worker,
    ):
        yield system, system.ready(worker)


def submit(system: System, tasks: int) -> list[Task]:
    return system.tasker.submit_many([("ledger/fan", None)] * tasks)


def running_under(system: System, worker: Worker) -> list[int]:
    """The processes of a worker that run a step just now."""
    query = """
        select own.pid
        from tasker.step_attempts a
        join tasker.workers own on own.id = a.worker_id
        left join tasker.workers main on main.id = own.parent_id
        where a.finished_at is null and coalesce(main.pid, own.pid) = %s
    """
    return [pid for (pid,) in system.rows(query, worker.pid)]


def await_running(system: System, worker: Worker) -> int:
    """A process of `worker` that runs a step, after it has had some effects already."""
    eventually(lambda: len(effects(system)) > STEPS and running_under(system, worker), "steps run")
    return (running_under(system, worker) or [worker.pid])[0]


def test_a_killed_child_costs_its_step_one_attempt_and_no_task_its_end(
    standing: tuple[System, Worker],
) -> None:
    system, worker = standing
    tasks = submit(system, 10)
    os.kill(await_running(system, worker), signal.SIGKILL)
    assert_settled(system, tasks)
    assert worker.process.poll() is None


def test_an_emptied_broker_delays_and_loses_nothing(standing: tuple[System, Worker]) -> None:
    system, worker = standing
    tasks = submit(system, 10)
    await_running(system, worker)
    system.empty_broker()
    assert_settled(system, tasks)


def kill_main(worker: Worker) -> None:
    """kill -9 of the main process alone; its children have to notice."""
    children = descendants(worker.pid)
    assert len(children) >= 2
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not living(children), f"of {children} no process is left", seconds=5)


@pytest.mark.parametrize("kill", [kill_main, Worker.kill_group])
def test_a_killed_worker_leaves_its_steps_to_another(
    standing: tuple[System, Worker], kill: Callable[[Worker], None]
) -> None:
    system, _ = standing
    with system.worker(LEDGER, "--concurrency", "2") as victim:
        system.ready(victim)
        tasks = submit(system, 10)
        await_running(system, victim)
        kill(victim)
        assert_settled(system, tasks)


@pytest.mark.slow
def test_a_worker_started_after_all_were_killed_goes_on(
    system_with_own_broker: SystemWithOwnBroker, tmp_path: Path
) -> None:
    with system_with_own_broker("late", tmp_path) as system:
        with system.worker(LEDGER, "--concurrency", "2") as only:
            system.ready(only)
            tasks = submit(system, 8)
            await_running(system, only)
            only.kill_group()
        with system.worker(LEDGER, "--concurrency", "2"):
            assert_settled(system, tasks)
