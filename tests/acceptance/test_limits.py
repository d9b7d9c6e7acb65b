"""Handlers that do not end by themselves: each ends in time, and its worker goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tasker import StepFailed, Task
from tasker.db.migrate import migrate
from tests.acceptance.apps.endless import LIMIT_SECONDS
from tests.acceptance.system import APPS, RECOVERY_THRESHOLDS, System, Thresholds, Worker, eventually
from tests.acceptance.test_outages import Crashing
from tests.conftest import Databases

ENDLESS = f"{APPS}.endless"
SHORT: Thresholds = {
    **RECOVERY_THRESHOLDS,
    "timeout_grace_seconds": (0.5, 3),
    "cancel_grace_seconds": (0.5, 10),
}
DEFAULTS: Thresholds = {}
SPARE_SECONDS = 2
"""Beyond limit and grace, by which everything has to be over: 5 s beyond the limit with the default grace."""


def graces(thresholds: Thresholds) -> float:
    return thresholds.get("timeout_grace_seconds", (3, 3))[0]


@contextmanager
def running(
    databases: Databases,
    template_database: str,
    redis_url: str,
    folder: Path,
    thresholds: Thresholds,
    *options: str,
) -> Iterator[tuple[System, Worker]]:
    """A system and a worker in it."""
    with (
        databases.make(template_database) as database_url,
        System(database_url, redis_url, folder, thresholds) as system,
        system.worker(ENDLESS, *options) as worker,
    ):
        yield system, system.ready(worker)
        assert system.violations() == []


def attempt(system: System, task: Task) -> Mapping[str, Any]:
    """The only attempt of a task of one step."""
    query = """
        select a.outcome, a.error ->> 'type', a.error ->> 'message', a.error ->> 'traceback',
            extract(epoch from a.finished_at - a.started_at)::float8, a.late
        from tasker.step_attempts a
        join tasker.steps s on s.id = a.step_id
        where s.task_id = %s
    """
    ((outcome, kind, message, place, seconds, late),) = system.rows(query, task.id)
    return {
        "outcome": outcome,
        "type": kind,
        "message": message,
        "where": place,
        "seconds": seconds,
        "late": late,
    }


def noted(system: System, task: Task, word: str) -> bool:
    return (system.folder / f"{task.id}-{word}").exists()


def assert_timed_out(system: System, task: Task, at: float, within: float) -> None:
    assert system.settled(task) == "error"
    found = attempt(system, task)
    assert (found["outcome"], found["type"]) == ("error", "tasker.StepTimeout")
    assert f"longer than its {LIMIT_SECONDS:g} s" in found["message"]
    assert at <= found["seconds"] <= within, found


@pytest.mark.parametrize("thresholds", [SHORT, pytest.param(DEFAULTS, marks=pytest.mark.slow)])
def test_however_a_handler_hangs_its_step_ends_in_time_and_the_processes_go_on(
    databases: Databases, template_database: str, redis_url: str, tmp_path: Path, thresholds: Thresholds
) -> None:
    options = ("--concurrency", "3")
    with running(databases, template_database, redis_url, tmp_path, thresholds, *options) as (system, worker):
        names = ("sleeps", "swallows", "holds", "catches", "awaits", "blocks", "queries")
        tasks = {name: system.submit(f"endless/{name}") for name in names}
        hard = LIMIT_SECONDS + graces(thresholds)

        for name in ("sleeps", "awaits", "blocks", "queries"):
            assert_timed_out(system, tasks[name], LIMIT_SECONDS, LIMIT_SECONDS + 1.5)
        for name in ("swallows", "holds"):
            assert_timed_out(system, tasks[name], hard, hard + SPARE_SECONDS)
        assert noted(system, tasks["swallows"], "told")
        assert "in deaf" in attempt(system, tasks["swallows"])["where"]
        assert "in captive" in worker.log.read_text(), "where it held the interpreter"
        assert system.settled(tasks["catches"]) == "complete"
        assert tasks["catches"].refresh().result("caught").startswith("in time after all: caught ran longer")

        after = system.tasker.submit_many([("endless/alive", None)] * 6)
        assert [system.settled(task) for task in after] == ["complete"] * 6
        assert {task.result("loops") for task in after} == {True}
        assert worker.process.poll() is None
        assert system.one("select count(*) from tasker.step_attempts where finished_at is null") == 0
        assert system.one("select count(*) from pg_stat_activity where query like 'select pg_sleep%%'") == 0


@pytest.mark.parametrize("pool", ["threads", pytest.param("solo", marks=pytest.mark.slow)])
def test_a_process_that_has_to_live_ends_the_attempt_and_lets_the_handler_go_on(
    databases: Databases, template_database: str, redis_url: str, tmp_path: Path, pool: str
) -> None:
    options = ("--pool", pool, "--concurrency", "2")
    with running(databases, template_database, redis_url, tmp_path, SHORT, *options) as (system, worker):
        hard = LIMIT_SECONDS + graces(SHORT)
        stubborn = system.submit("endless/returns_late")
        assert_timed_out(system, stubborn, hard, hard + SPARE_SECONDS)
        if pool == "threads":  # one thread of two is lost until its handler returns
            assert system.settled(system.submit("endless/alive")) == "complete"
        (system.folder / f"{stubborn.id}-open").touch()
        eventually(lambda: attempt(system, stubborn)["late"], "what came late is kept")
        assert attempt(system, stubborn)["late"]["result"] == "late"

        patient = system.submit("endless/loops_in_python")
        assert_timed_out(system, patient, LIMIT_SECONDS, LIMIT_SECONDS + 1.5)
        assert "in spin" in attempt(system, patient)["where"]
        assert system.settled(system.submit("endless/alive")) == "complete"
        assert worker.process.poll() is None


def test_a_handler_learns_that_its_attempt_was_ended_and_one_that_goes_on_is_ended_too(
    databases: Databases, template_database: str, redis_url: str, tmp_path: Path
) -> None:
    options = ("--concurrency", "3")
    with running(databases, template_database, redis_url, tmp_path, SHORT, *options) as (system, worker):
        attentive, heedless = system.submit("endless/watches"), system.submit("endless/ignores")
        late = system.tasker.submit("endless/watches", deadline_seconds=1)
        deadline = system.one("select deadline_at from tasker.tasks where id = %s", late.id)
        for task in (attentive, heedless, late):
            eventually(lambda task=task: noted(system, task, "runs"), "all run")  # type: ignore[misc]
        began = time.monotonic()
        attentive.cancel()
        heedless.cancel()
        eventually(lambda: noted(system, attentive, "cancelled"), "the handler reads it", 2.5)
        assert (tmp_path / f"{attentive.id}-cancelled").read_text() == "None"

        eventually(lambda: noted(system, heedless, "told"), "the handler is told")
        assert time.monotonic() - began >= 0.5, "not before the grace is over"
        eventually(lambda: "and does not end" in worker.log.read_text(), "it is given up")
        assert system.settled(heedless) == "cancelled"

        assert system.settled(late) == "error"
        with pytest.raises(StepFailed, match="DeadlineExceeded: the deadline of the task passed"):
            late.result("attentive")
        eventually(lambda: noted(system, late, "cancelled"), "the handler reads it", 2.5)
        assert datetime.fromisoformat((tmp_path / f"{late.id}-cancelled").read_text()) == deadline

        after = system.tasker.submit_many([("endless/alive", None)] * 6)
        assert [system.settled(task) for task in after] == ["complete"] * 6
        assert worker.process.poll() is None


@pytest.mark.slow
def test_what_a_worker_cannot_end_the_coordinator_does_and_celerys_own_limits_hold(
    databases: Databases, template_database: str, redis_url: str, tmp_path: Path
) -> None:
    with (
        databases.make(template_database) as database_url,
        System(database_url, redis_url, tmp_path, SHORT) as system,
        system.worker(f"{APPS}.alarmed", "--concurrency", "2") as worker,
    ):
        system.ready(worker)
        hard = LIMIT_SECONDS + graces(SHORT)
        watched = SHORT["silence_seconds"][0] + 3 * SHORT["recovery_seconds"][0]
        task = system.submit("endless/holds")
        assert_timed_out(system, task, hard + watched / 2, hard + watched + SPARE_SECONDS)
        assert "ran far beyond their time and are ended" in worker.log.read_text()

        # in the process that is left, which has raised StepTimeout before
        assert_timed_out(system, system.submit("endless/sleeps"), LIMIT_SECONDS, LIMIT_SECONDS + 1.5)
        system.tasker.celery.send_task(f"{APPS}.alarmed.limited", ("told",))
        eventually((tmp_path / "told").exists, "SoftTimeLimitExceeded in a task of Celery's")
        assert system.settled(system.submit("endless/alive")) == "complete"
        assert system.violations() == []


@pytest.mark.slow
def test_an_outage_of_postgresql_lengthens_no_limit_and_takes_back_no_outcome(
    redis_url: str, temp: Path, tmp_path: Path
) -> None:
    postgres = Crashing(temp / "servers")
    url = postgres.start()
    migrate(url)
    try:
        with (
            System(url, redis_url, tmp_path, SHORT) as system,
            system.worker(ENDLESS, "--concurrency", "2") as worker,
        ):
            system.ready(worker)
            task = system.submit("endless/outage")
            eventually(lambda: noted(system, task, "runs") and noted(system, task, "runs too"), "both run")
            postgres.crash()
            told = time.monotonic()
            eventually(
                lambda: noted(system, task, "told") and noted(system, task, "told too"), "both are told"
            )
            assert time.monotonic() - told < 1.5 + 1
            eventually(lambda: "and does not end" in worker.log.read_text(), "one is given up")
            postgres.start()
            system.reconnect()
            assert system.settled(task) == "error"
            query = """
                select s.name, a.outcome, a.error ->> 'type'
                from tasker.step_attempts a
                join tasker.steps s on s.id = a.step_id
                order by s.name
            """
            assert system.rows(query) == [
                ("cleaning", "complete", None),
                ("clinging", "error", "tasker.StepTimeout"),
            ]
            assert system.settled(system.submit("endless/alive")) == "complete"
            assert system.violations() == []
    finally:
        postgres.stop()
