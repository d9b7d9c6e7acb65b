"""`tasker dev` with the files of the README: runs them as printed, follows their changes, ends whole."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker.cli.failures import ExitCode
from tests.acceptance.commands import Running, run, tasker
from tests.acceptance.system import ROOT, eventually
from tests.conftest import Connection

READY = "worker is ready"
ENDLESS = """
from pathlib import Path
from time import sleep
from tasker import TaskTemplate

one = TaskTemplate("endless/one", version="1.0.0")

@one.step
def work() -> None:
    Path("runs").touch()
    sleep(3600)
"""
SHIP = """
@fulfilment.step
def ship(charge: dict) -> str:
    return "shipped"
"""


def readme_file(name: str) -> str:
    """The Python block of the README that begins with a comment on this file."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"# {name}")]
    return str(found)


@pytest.fixture
def shop(temp: Path) -> Path:
    """A folder with the two files, open to the user who runs PostgreSQL."""
    folder = temp / "shop"
    folder.mkdir()
    for name in ("shop.py", "submit.py"):
        (folder / name).write_text(readme_file(name))
    return folder


def submit(folder: Path) -> dict[str, str]:
    """What the README's application prints."""
    done = run(folder, sys.executable, "submit.py")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = ast.literal_eval(done.stdout)
    return found


def test_the_readme_runs_as_printed_and_the_worker_follows_the_code(shop: Path) -> None:
    with tasker(shop, "-A", "shop", "dev") as dev:
        dev.await_output(READY)
        assert "PostgreSQL keeps its data in .tasker\n" in dev.output()
        found = submit(shop)
        assert found["amount"] == "9.50"
        assert found["payment"].endswith("/charge")

        (printed,) = re.findall(r"^    (.* task submit .*)$", dev.output(), re.MULTILINE)
        assert "ship" not in run(shop, *shlex.split(printed)).stdout

        code = shop / "shop.py"
        right = code.read_text()
        code.write_text(f"{right}\nthis is not Python\n")
        dev.await_output("it starts again when a file changes")
        code.write_text(right.replace("context.amount}", "2 * context.amount}") + SHIP)
        dev.await_output("it is 1.0.0+dev.1")
        dev.await_output(READY, times=2)
        assert submit(shop)["amount"] == "19.00"
        assert re.search(r"ship +complete", run(shop, *shlex.split(printed)).stdout)

        assert dev.end(signal.SIGINT) == 0
        assert dev.output().endswith("stopped\n")
    assert not (shop / ".tasker" / "dev.json").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_dev_leaves_no_process_however_it_ends(shop: Path, number: signal.Signals) -> None:
    with tasker(shop, "-A", "shop", "dev") as dev:
        dev.await_output(READY)
        assert dev.end(number) == (-number if number == signal.SIGKILL else 0)


@pytest.mark.parametrize(
    ("program", "name"),
    [pytest.param("redis-server", "Redis", marks=pytest.mark.slow), ("postgres", "PostgreSQL")],
)
def test_dev_ends_when_a_server_of_its_own_has_ended(shop: Path, program: str, name: str) -> None:
    with tasker(shop, "-A", "shop", "dev") as dev:
        dev.await_output(READY)
        assert dev.end(signal.SIGKILL, to=program) == ExitCode.UNREACHABLE
        assert f"{name} has ended (SIGKILL); the end of {shop / '.tasker'}" in dev.output()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run by another user")
def test_dev_in_a_folder_that_only_root_can_enter_names_the_place_of_the_data(temp: Path) -> None:
    closed = temp / "closed"
    closed.mkdir(mode=0o700)
    with tasker(closed, "dev") as dev:
        dev.await_output("nothing here runs steps")
        place = (closed / ".tasker" / "postgres-18").resolve()
        assert place.is_relative_to(temp / f"tasker-{os.geteuid()}")
        assert f"PostgreSQL keeps its data in {place}, since its user cannot enter" in dev.output()
        assert f"whatever clears {temp} deletes them" in dev.output()
        assert dev.end(signal.SIGINT) == 0


@pytest.fixture
def endless(temp: Path, database_url: str, redis_url: str) -> Iterator[Running]:
    """A `dev` on configured servers, with a step that runs for ever."""
    (temp / "endless.py").write_text(ENDLESS)
    servers = {"TASKER_DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    with tasker(temp, "-A", "endless", "dev", "-c", "1", **servers) as dev:
        dev.await_output(READY)
        run(temp, sys.executable, "-m", "tasker", "task", "submit", "endless/one")
        eventually((temp / "runs").exists, "the step runs")
        yield dev


def test_an_interrupted_dev_says_what_still_runs_and_gives_it_back_when_it_is_interrupted_again(
    endless: Running, connection: Connection
) -> None:
    endless.process.send_signal(signal.SIGINT)
    endless.await_output("1 step still runs; ended in 10 s, or now by Ctrl-C")
    assert endless.end(signal.SIGINT) == 0
    assert endless.output().endswith("stopped\n")
    reasons = connection.execute("select distinct stopped_because from tasker.workers").fetchall()
    assert reasons == [("shutdown",)]
    connection.execute("select tasker.recover_steps(3, 10, false)")
    step = "select state, attempt, losses, alone from tasker.steps"
    assert connection.execute(step).fetchall() == [("enqueued", 1, 0, False)]


@pytest.mark.slow
def test_a_step_that_a_reload_ended_runs_at_once_in_the_new_worker(
    endless: Running, temp: Path, connection: Connection
) -> None:
    (temp / "endless.py").write_text(ENDLESS.replace("sleep(3600)", "pass"))
    endless.await_output("1 step still runs")
    endless.await_output(READY, times=2)
    step = "select state, attempt, losses from tasker.steps"
    after_all = [("complete", 2, 0)]
    eventually(lambda: connection.execute(step).fetchall() == after_all, "it runs again", seconds=3)
    assert endless.end(signal.SIGINT) == 0


def test_dev_without_an_application_says_that_nothing_runs_steps(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    servers = {"TASKER_DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    with tasker(tmp_path, "dev", **servers) as dev:
        dev.await_output("nothing here runs steps")
        assert "PostgreSQL is the configured one, postgresql://" in dev.output()

        second = run(tmp_path, sys.executable, "-m", "tasker", "dev")
        assert second.returncode == 4
        assert f"is in use by process {dev.process.pid}" in second.stderr
        assert dev.end(signal.SIGINT) == 0


@pytest.mark.slow
def test_dev_with_an_application_that_is_not_there_ends(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    servers = {"TASKER_DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    with tasker(tmp_path, "-A", "nope", "dev", **servers) as dev:
        eventually(lambda: dev.process.poll() is not None, "it ends")
        assert dev.process.returncode == 1
        assert "there is no module nope" in dev.output()
