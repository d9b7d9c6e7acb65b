"""`tasker demo`: what a newcomer sees first."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tasker.dev.demo import Run, judge
from tests.acceptance.commands import run, tasker
from tests.acceptance.system import System, eventually
from tests.conftest import Connection
from workers import EXAMPLES

MISJUDGED = """
from dataclasses import replace
from tasker.cli.main import tasker
from workers import EXAMPLES

EXAMPLES["linear"] = replace(EXAMPLES["linear"], expected=lambda: {"solutions": "nothing"})
tasker(["demo"])
"""
"""A demo that expects something else of one example."""

STEPS = {name: len(example.template.definition.steps) for name, example in EXAMPLES.items()}


def test_the_demo_gets_every_example_right_and_leaves_nothing_behind(temp: Path) -> None:
    done = run(temp, sys.executable, "-m", "tasker", "demo")
    assert done.returncode == 0, done.stderr
    head, *rows, last = done.stdout.splitlines()
    assert head.split() == ["TASK", "STEPS", "ATTEMPTS", "DURATION", "STATE"]
    cells = [row.split() for row in rows]
    assert {name: int(steps) for name, steps, *_ in cells} == STEPS
    assert {name for name, steps, attempts, *_ in cells if int(attempts) > int(steps)} >= {"order_fulfilment"}
    assert {state for *_, state in cells} == {"complete"}
    assert last == "7 of 7 tasks right"
    assert list(temp.glob("tasker-*/demo-*")) == []


def test_the_demo_says_what_it_expected_of_a_task_that_is_wrong(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {
        "right": {"a": 1, "b": -5, "c": 6},
        "other": {"a": 1, "b": 0, "c": -4},
        "failed": {"a": 1, "b": 0, "c": 1},
    }
    runs = [
        Run(name, EXAMPLES["linear"], system.submit("examples/linear", given).wait(timeout=20))
        for name, given in inputs.items()
    ]
    assert [len(each.look().steps) for each in runs] == [4, 4, 4]
    assert not judge(runs, system.tasker.database)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:4]] == ["right", "other", "failed"]
    assert printed[4:7] == [
        "other is wrong",
        "  solutions: expected [2, 3], found [-2.0, 2.0]",
        "failed is wrong",
    ]
    assert printed[7].startswith("  expected the task to be complete, found it error")
    assert printed[-1] == "1 of 3 tasks right"


def test_the_demo_fails_when_a_task_is_wrong_and_names_the_configured_servers(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    servers = {"DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    done = run(tmp_path, sys.executable, "-c", MISJUDGED, **servers)
    assert done.returncode == 1, done.stderr
    assert "solutions: expected nothing, found" in done.stdout
    assert done.stdout.endswith("6 of 7 tasks right\n")
    assert "PostgreSQL is the configured one, postgresql://" in done.stderr
    assert "starting a worker of two processes\n" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_interrupted_leaves_no_process(temp: Path, number: signal.Signals) -> None:
    with tasker(temp, "demo") as demo:
        demo.await_output("running 7 examples")
        assert demo.end(number) == (-number if number == signal.SIGKILL else 130)


@pytest.mark.slow
def test_the_demo_runs_on_configured_servers_and_leaves_its_tasks_there(
    temp: Path, database_url: str, redis_url: str, connection: Connection
) -> None:
    servers = {"TASKER_DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    with tasker(temp, "demo", **servers) as demo:
        eventually(lambda: demo.process.poll() is not None, "the demo ends")
        assert demo.process.returncode == 0, demo.output()
    found = connection.execute("select state, count(*) from tasker.tasks group by 1").fetchall()
    assert found == [("complete", 7)]
