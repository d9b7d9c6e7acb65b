"""`tasker dev` with the files of the README: runs them as printed, follows their changes, ends whole."""

from __future__ import annotations

import ast
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.commands import run, tasker
from tests.acceptance.system import ROOT, eventually

READY = "worker is ready"
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
def shop(tmp_path: Path) -> Path:
    """A folder with the two files, open to the user who runs PostgreSQL."""
    for name in ("shop.py", "submit.py"):
        (tmp_path / name).write_text(readme_file(name))
    return tmp_path


def submit(folder: Path) -> dict[str, str]:
    """What the README's application prints."""
    done = run(folder, sys.executable, "submit.py")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = ast.literal_eval(done.stdout)
    return found


def test_the_readme_runs_as_printed_and_the_worker_follows_the_code(shop: Path) -> None:
    with tasker(shop, "-A", "shop", "dev") as dev:
        dev.await_output(READY)
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


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_dev_leaves_no_process_however_it_ends(shop: Path, number: signal.Signals) -> None:
    with tasker(shop, "-A", "shop", "dev") as dev:
        dev.await_output(READY)
        assert dev.end(number) == (-number if number == signal.SIGKILL else 0)


def test_dev_without_an_application_says_that_nothing_runs_steps(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    servers = {"TASKER_DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    with tasker(tmp_path, "dev", **servers) as dev:
        dev.await_output("nothing here runs steps")
        assert "PostgreSQL is the configured one" in dev.output()

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
