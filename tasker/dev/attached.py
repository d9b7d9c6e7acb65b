"""Run as a module in a new process: a command of Tasker that ends with the process that started it.

    python -m tasker.dev.attached PARENT_PID REPORT_FD ARGUMENTS...

REPORT_FD is a pipe that takes one line of JSON on what the application's module has loaded; -1 is no pipe.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from tasker.dev.bound import bind

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(parent: int, report_to: int, arguments: Sequence[str]) -> None:
    """Run `tasker ARGUMENTS...` in this process, until it ends or the parent dies."""
    if not bind(parent, signal.SIGKILL):
        return
    if report_to >= 0:
        _load(report_to)
    from tasker.cli.main import tasker

    tasker(list(arguments), prog_name="tasker")


def _load(report_to: int) -> None:
    """Load the module that TASKER_APP names before the command does, and tell the parent what came with it.

    Templates that were edited get a version of their own. A module that fails is not imported again for the
    command: what it had registered would be in the way.
    """
    from tasker.cli.failures import report
    from tasker.cli.output import note
    from tasker.db.engine import Database
    from tasker.dev.reload import NOTHING, loaded
    from tasker.dev.versions import number_edited
    from tasker.domain.errors import SettingsError
    from tasker.settings import load_settings
    from tasker.worker.application import import_application

    failure: Exception | None = None
    try:
        settings = load_settings()
        import_application(str(settings.app), settings)
        with closing(Database(settings.require_database_url(), connections=1)) as database:
            for line in number_edited(database):
                note(line)
        found = loaded()
    except SettingsError as error:
        failure, found = error, NOTHING  # no change of a file helps
    except Exception as error:  # noqa: BLE001 - the application's own code may raise anything
        failure, found = error, loaded(error)
    with os.fdopen(report_to, "w") as pipe:
        json.dump(found, pipe)
    if failure is not None:
        sys.exit(report(failure))


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
