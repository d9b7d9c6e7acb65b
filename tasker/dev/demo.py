"""`tasker demo`: every example through a real worker, its results checked."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tasker.cli.output import note, print_table
from tasker.db import queries
from tasker.dev.examples import load_examples
from tasker.dev.places import private_folder
from tasker.dev.processes import Attached, ended_by_signals
from tasker.dev.progress import Progress, Standing
from tasker.dev.system import configured_servers, start_system, variables_of
from tasker.dev.users import server_user
from tasker.domain.errors import TaskerError, WaitTimeout
from tasker.domain.states import TASK_SETTLED, TaskState
from tasker.orchestration.client import Tasker
from tasker.settings import DEFAULT_FILE, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasker.db.engine import Database
    from tasker.dev.examples import Example, Examples
    from tasker.dev.servers import DevSystem
    from tasker.domain.records import StepRecord
    from tasker.orchestration.client import Task
    from tasker.settings import Settings

PROCESSES = 2
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 120.0
LOG_LINES = 20
FOLDER_PREFIX = "demo-"
ABANDONED_SECONDS = 60


@dataclass
class Run:
    """One example and the task it became."""

    name: str
    example: Example
    task: Task
    steps: Sequence[StepRecord] = ()

    def look(self) -> Standing:
        """How far it is now."""
        if self.task.state not in TASK_SETTLED or not self.steps:
            self.task.refresh()
            self.steps = self.task.steps()
        return Standing(self.task.state, [step.state for step in self.steps])

    def row(self, database: Database) -> tuple[object, ...]:
        """Its line of the table."""
        record = database.call(queries.get_task, self.task.id)
        took = (record.finished_at or record.created_at) - record.created_at
        attempts = sum(step.attempt for step in self.steps)
        return self.name, len(self.steps), attempts, f"{took.total_seconds():.2f} s", record.state

    def wrong(self) -> list[str]:
        """What is not as it must be, a line each."""
        if self.task.state != TaskState.COMPLETE:
            return [f"expected the task to be complete, found it {self.task.state}", *self.task.why()]
        expected, found = self.example.expected(), self.example.found(self.task)
        return [
            f"{what}: expected {expected[what]}, found {found[what]}"
            for what in expected
            if expected[what] != found[what]
        ]


def run_demo(config: Path | None) -> bool:
    """Run every example on configured or embedded servers; whether all came out right.

    Raises what the servers raise, TaskerError when the worker dies, WaitTimeout when a task does not settle.
    """
    examples = load_examples()
    with ended_by_signals(), _folder() as folder:
        # with a data folder of its own, a `tasker dev` that runs here is not taken for configured servers
        settings = load_settings(config, data_dir=folder)
        _announce(settings)
        with start_system(settings, durable=False) as system:
            # for the worker, and for the examples, which look into the shop's database from this process too
            os.environ.update(_variables(system, examples, config, folder))
            with _worker(examples, folder) as worker, closing(Tasker()) as tasker:
                _await_ready(worker, tasker.database, system)
                note(f"running {len(examples.by_name)} examples")
                runs = [
                    Run(name, example, tasker.submit(example.template, example.context))
                    for name, example in examples.by_name.items()
                ]
                _follow(runs, worker, system)
                return judge(runs, tasker.database)


def _announce(settings: Settings) -> None:
    configured = configured_servers(settings)
    for name, url in configured.items():
        note(f"{name} is the configured one, {url}; what the demo leaves there remains")
    own = {"PostgreSQL": "PostgreSQL", "the broker": "Redis"}
    started = [program for name, program in own.items() if name not in configured]
    note(f"starting {', '.join([*started, 'a worker of two processes'])}")


def _variables(system: DevSystem, examples: Examples, config: Path | None, folder: Path) -> dict[str, str]:
    found = {**variables_of(system), "TASKER_APP": examples.module, "TASKER_DATA_DIR": str(folder)}
    if file := config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None):
        found["TASKER_CONFIG"] = str(file.absolute())
    return found


@contextmanager
def _worker(examples: Examples, folder: Path) -> Iterator[Attached]:
    """A worker of the examples. What it logs is shown when the demo fails."""
    path = folder / "worker.log"
    with path.open("wb") as log:
        worker = Attached(
            ["worker", "--concurrency", str(PROCESSES)], variables={}, cwd=examples.found_in, log=log
        )
    try:
        yield worker
    except TaskerError:
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        note("\n".join(["the worker's last lines:", *(f"  {line}" for line in lines)]))
        raise
    finally:
        worker.stop()


def _await_ready(worker: Attached, database: Database, system: DevSystem) -> None:
    """Return when the worker takes steps, so that the table shows how long tasks take and not its start."""
    while not any(process.pid == worker.pid for process in database.call(queries.list_workers)):
        _assert_runs(worker, system)


def _follow(runs: Sequence[Run], worker: Attached, system: DevSystem) -> None:
    """Show how far the tasks are until all are settled."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with Progress() as progress:
        while True:
            progress.show({run.name: run.look() for run in runs})
            unsettled = [run for run in runs if run.task.state not in TASK_SETTLED]
            if not unsettled:
                return
            _assert_runs(worker, system)
            if time.monotonic() > deadline:
                reasons = "; ".join(unsettled[0].task.why())
                raise WaitTimeout(
                    f"{unsettled[0].name} is not settled after {PATIENCE_SECONDS:g} s: {reasons}"
                )


def _assert_runs(worker: Attached, system: DevSystem) -> None:
    """Wait a little. Raises TaskerError when the worker has ended, Unreachable when a server has."""
    system.assert_runs()
    if (code := worker.ended(LOOK_SECONDS)) is not None:
        raise TaskerError(f"the worker has ended with exit code {code}")


def judge(runs: Sequence[Run], database: Database) -> bool:
    """Print the table and what is wrong; whether nothing is."""
    rows = [run.row(database) for run in runs]
    print_table(("TASK", "STEPS", "ATTEMPTS", "DURATION", "STATE"), rows, nothing="there are no examples")
    wrong = {run.name: found for run in runs if (found := run.wrong())}
    for name, found in wrong.items():
        click.echo("\n".join([f"{name} is wrong", *(f"  {line}" for line in found)]))
    click.echo(f"{len(runs) - len(wrong)} of {len(runs)} tasks right")
    return not wrong


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for this demo alone, removed afterwards; also those of demos that were killed."""
    user = server_user(Path(os.devnull))  # as for a data folder that holds nothing yet
    place = private_folder(user)
    for lock in place.glob(f"{FOLDER_PREFIX}*/lock"):
        with suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if time.time() - lock.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(lock.parent)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=place))
    folder.chmod(0o700 if user is None else 0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
