"""Large tasks: what they cost grows with their steps and no faster, and no process grows with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tasker import Task
from tests.acceptance.system import APPS, System, Worker, eventually
from tests.processes import children

STEPS = 100_000
LIMIT = {"TASKER_TEMPLATE_MAX_STEPS": str(STEPS)}
START_SECONDS = 120.0
SECONDS = 900.0
GROWN_MB = 6.0
"""A tenth of what keeping a hundred bytes of each step would take."""

ROWS = """
    select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
    from pg_stat_user_tables
    where schemaname = 'tasker' and relname in ('steps', 'step_edges', 'step_attempts', 'template_steps')
"""


@contextmanager
def worker_of(system: System, ways: int) -> Iterator[Worker]:
    """A worker of two processes that knows the fan of so many ways, and has measured its handlers."""
    variables = {**LIMIT, "TASKER_TEST_WAYS": str(ways)}
    with system.worker(f"{APPS}.large", "--concurrency", "2", **variables) as worker:
        ready = "select count(*) from tasker.templates where version = %s"
        eventually(lambda: system.one(ready, f"1.{ways}.0"), "the template is stored", START_SECONDS)
        system.ready(worker)
        yield worker
        assert worker.stop() == 0


def run(system: System, ways: int) -> Task:
    """Run a task of so many ways to its end."""
    task = system.tasker.submit(f"large/fan@1.{ways}.0")
    assert task.wait(SECONDS).state == "complete"
    return task


def rows_read(system: System, ways: int) -> float:
    """Rows of steps and what belongs to them that the server read for a task, by step."""
    with worker_of(system, ways):
        system.rows("select pg_stat_reset()")
        task = run(system, ways)
        assert task.result("last") == ways
    # a session tells the server what it has done when it ends, at the latest
    updated = "select n_tup_upd >= %s from pg_stat_user_tables where relname = 'steps'"
    eventually(lambda: system.one(updated, 2 * ways), "the server has counted")
    assert system.one("select deadlocks from pg_stat_database where datname = current_database()") == 0
    return float(system.one(ROWS)) / (ways + 2)


@pytest.mark.slow
def test_sixteen_times_as_many_steps_cost_far_from_sixteen_times_as_much_each(
    own_system: System, record_property: Callable[[str, object], None]
) -> None:
    small, large = (rows_read(own_system, ways) for ways in (1_000, 16_000))
    record_property("rows_by_step", (small, large))
    # each look at what is held reads up to a thousand steps of it, which a small fan does not have
    assert large < 6 * small


def unshared_mb(pid: int) -> float:
    """The memory that a process has of its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kb,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(kb) / 1024


@pytest.mark.slow
def test_no_process_grows_with_the_steps_of_a_task(
    own_system: System, record_property: Callable[[str, object], None]
) -> None:
    ways = STEPS - 2
    with worker_of(own_system, ways) as worker:
        began = monotonic()
        task = own_system.tasker.submit(f"large/fan@1.{ways}.0")
        record_property("created_seconds", monotonic() - began)
        is_done = "select steps_open < %s from tasker.tasks where id = %s"
        eventually(lambda: own_system.one(is_done, 0.8 * STEPS, task.id), "a fifth is done", SECONDS)
        family = {worker.pid, *children(worker.pid)}
        before = {pid: unshared_mb(pid) for pid in family}
        eventually(lambda: own_system.one(is_done, 0.1 * STEPS, task.id), "nine tenths are done", SECONDS)
        grown = {pid: unshared_mb(pid) - before[pid] for pid in family}
        record_property("grown_mb", grown)
        assert max(grown.values()) < GROWN_MB
        assert task.wait(SECONDS).result("last") == ways
        record_property("done_seconds", monotonic() - began)
