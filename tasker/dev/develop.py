"""`tasker dev`: the whole system in one terminal, with the newest code."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tasker.dev.ending import end_worker
from tasker.dev.processes import STOP_SECONDS, Attached, ended_by_signals
from tasker.dev.reload import Watch
from tasker.dev.system import kept, start_system, variables_of
from tasker.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasker.dev.servers import DevSystem
    from tasker.settings import Settings

LOOK_SECONDS = 0.3
"""Between two looks at the files; changes are acted on when a look finds no further one."""


def develop(settings: Settings, config: Path | None, *, concurrency: int) -> None:
    """Run PostgreSQL and Redis, unless configured, and a worker of the application until interrupted.

    The worker starts anew when a file of the application changes. Without an application only the
    coordinator's loops run. Raises StateConflict when the data folder is in use, SettingsError when the
    application cannot be found, Unreachable when a server it has started ends, and what the servers and the
    migration raise.
    """
    try:
        with ended_by_signals(), start_system(settings) as system:
            for line in kept(settings):
                _say(line)
            variables = {
                **variables_of(system),
                **({"TASKER_APP": settings.app} if settings.app else {}),
                **({"TASKER_CONFIG": str(config.absolute())} if config else {}),
            }
            if settings.app:
                command = ["worker", "--concurrency", str(concurrency)]
                _run_workers(settings.app, command, variables, system)
            else:
                _run_coordinator(variables, system)
    except KeyboardInterrupt:
        _say("stopped")


def _run_workers(app: str, command: list[str], variables: Mapping[str, str], system: DevSystem) -> None:
    """Run the worker, and another one whenever files have changed."""
    described = False
    while True:
        worker = Attached(command, variables=variables, reports=True)
        try:
            loaded = worker.loaded()
            if not loaded["files"]:
                worker.ended(STOP_SECONDS)  # it says why before it ends
                raise SettingsError(f"the worker of {app} did not start")
            if not described:
                described = _describe(loaded["templates"])
            changed = _await_change(worker, Watch(loaded["files"]), app, system)
            _say(f"{', '.join(file.name for file in changed)} changed; the worker of {app} starts anew")
        finally:
            end_worker(worker, system.database_url, _say)


def _await_change(worker: Attached, watch: Watch, app: str, system: DevSystem) -> list[Path]:
    """The files that have changed, once some have, whether the worker runs or has failed.

    Raises Unreachable when a server ends.
    """
    runs = True
    changed: set[Path] = set()
    while (now := watch.changed()) or not changed:
        changed.update(now)
        system.assert_runs()
        if not runs:
            time.sleep(LOOK_SECONDS)
        elif worker.ended(LOOK_SECONDS) is not None:
            runs = False
            _say(f"the worker of {app} has ended; it starts again when a file changes")
    return sorted(changed)


def _run_coordinator(variables: Mapping[str, str], system: DevSystem) -> None:
    _say(
        "no -A MODULE was given, so nothing here runs steps: only the coordinator's loops do.\n"
        f"Start workers from another terminal, in {Path.cwd()}:\n\n    {_program()} -A MODULE worker\n"
    )
    coordinator = Attached(["coordinator"], variables=variables)
    try:
        while coordinator.ended(LOOK_SECONDS) is None:
            system.assert_runs()
        raise SettingsError("the coordinator has ended")
    finally:
        coordinator.stop()


def _describe(templates: Mapping[str, str]) -> bool:
    """Say how to submit from another terminal; False when there is nothing to submit yet."""
    if not templates:
        return False
    name, context = next(iter(templates.items()))
    others = ", ".join(list(templates)[1:])
    program = _program()
    _say(
        f"submit from another terminal, in {Path.cwd()}:\n\n"
        f"    {program} task submit {name} --context {shlex.quote(context)} --wait\n"
        f"    {program} task list\n"
        f"    {program} task why TASK_ID\n"
        + (f"\nOther templates: {others}\n" if others else "")
        + "\nCtrl-C ends everything."
    )
    return True


def _program() -> str:
    """How this program is called from a shell in this folder."""
    data_dir = os.environ.get("TASKER_DATA_DIR")
    variable = f"TASKER_DATA_DIR={shlex.quote(data_dir)} " if data_dir else ""
    if shutil.which("tasker"):
        return f"{variable}tasker"
    script = Path(sys.argv[0])
    called = script.name == "tasker" and os.access(script, os.X_OK)
    return variable + (str(script) if called else f"{sys.executable} -m tasker")


def _say(text: str) -> None:
    click.echo(f"{click.style('tasker dev:', bold=True)} {text}")
