"""Workers and coordinators, started by us and by Celery, and the tasks they work on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli.typed import (
    CELERY,
    CELERY_PROGRAM,
    ROOT,
    SECONDS,
    SHOP,
    UNKNOWN,
    Ended,
    Run,
    write,
)


@contextmanager
def working(
    environment: dict[str, str], folder: Path, *command: str, log: list[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A worker that is ready; it is told to stop at the end, and must end well. `log` gets what it said."""
    log = [] if log is None else log
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            log += until_ready(process.stdout)
            assert any("ready" in line for line in log), "".join(log)
            yield process
            process.terminate()
            log += process.communicate(timeout=SECONDS)[0].splitlines()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def until_ready(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if "ready" in line:
            return


def test_a_failed_step_is_explained_retried_and_waited_for(
    run: Run, environment: dict[str, str], shop: str, tmp_path: Path
) -> None:
    worker = ("tasker", "-A", shop, "worker", "--concurrency", "1", "--queues", "celery")
    log: list[str] = []
    with working(environment, tmp_path, *worker, log=log) as process:
        submitted = run("task", "submit", "orders/fulfilment", "-c", '{"amount": 3}', "--wait", "-o", "json")
        assert (submitted.code, submitted.json["state"], submitted.json["created"]) == (10, "error", True)
        task = submitted.json["task_id"]
        assert "charge failed (failure 1 of 3: PermanentError: no card)" in run("task", "why", task).out
        shown = run("step", "show", f"{task}/charge")
        assert "PermanentError: no card" in shown.out.splitlines()[-1]
        assert run("step", "show", f"{task}/charge", "-o", "json").json["attempts"][0]["outcome"] == "error"
        assert run("step", "retry", f"{task}/reserve").code == 4
        write(tmp_path / "card", "")
        assert run("step", "retry", f"{task}/charge").out == f"{task}/charge is retried\n"
        waited = run("task", "wait", task, "--timeout", "20s", "-o", "json")
        assert (waited.code, waited.json["steps"][3]["result"]) == (0, "paid, from shelf 4")
        assert run("task", "why", task).out == "the task is complete; nothing is unfinished\n"
        assert run("doctor", PGOPTIONS="-c synchronous_commit=on").code == 0
    assert process.returncode == 0
    (line,) = [json.loads(line) for line in log if "failed for good" in line]
    assert line["level"] == "error"
    first, second = line["event"].splitlines()[:2]
    assert first.startswith(f"step charge of task {task} failed for good, attempt 1 of 3: tasker.Perm")
    assert second == "Traceback (most recent call last):"


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_run_steps_too(
    run: Run, environment: dict[str, str], shop: str, tmp_path: Path, pool: str
) -> None:
    write(tmp_path / "card", "")
    with working(environment, tmp_path, "tasker", "-A", shop, "worker", "--pool", pool):
        ended = run(
            "task", "submit", "orders/fulfilment", "-c", '{"amount": 3}', "--wait", "--timeout", "20s"
        )
        assert ended.code == 0
        assert "paid, from shelf 4" in ended.out


def test_a_coordinator_of_its_own_says_that_it_is_ready_and_ends_when_told(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    with working(environment, tmp_path, "tasker", "coordinator") as process:
        (check,) = [
            each for each in run("doctor", "-o", "json").json["findings"] if each["name"] == "coordinator"
        ]
        assert check["ok"]
    assert process.returncode == 0


@pytest.fixture
def below_celery(run: Run, environment: dict[str, str], tmp_path: Path) -> Run:
    """Run `celery -A shop …`, which finds our commands by their entry point, of an installation made here."""
    write(tmp_path / "shop.py", CELERY + SHOP)
    entry = "[celery.commands]\ntasker = tasker.cli.celery_plugin:tasker\n"
    write(tmp_path / "tasker_engine-0.dist-info" / "entry_points.txt", entry)
    write(tmp_path / "tasker_engine-0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: tasker-engine\n")

    def celery(*arguments: str) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-c", CELERY_PROGRAM, *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return celery


def test_the_same_commands_stand_below_celery(below_celery: Run) -> None:
    assert "tasker" in below_celery("--help").out
    assert (
        below_celery("-A", "shop", "tasker", "template", "register").out
        == "orders/fulfilment@1.0.0 is stored\n"
    )
    assert below_celery("-A", "shop", "tasker", "task", "show", UNKNOWN).code == 3
    nameless = below_celery("tasker", "template", "validate")
    assert nameless.code == 2
    assert "celery -A MODULE tasker template validate" in nameless.err


def test_a_celery_worker_can_leave_the_loops_to_others(below_celery: Run) -> None:
    assert "--no-coordinator" in below_celery("-A", "shop", "worker", "--help").out
