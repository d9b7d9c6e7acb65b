"""The end of a worker that `tasker dev` stops or replaces: it says what still runs, and that comes back."""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from typing import TYPE_CHECKING

from tasker.db import functions, queries
from tasker.db.engine import Database
from tasker.dev.processes import STOP_SECONDS
from tasker.domain.errors import TaskerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.dev.processes import Attached

QUIET_SECONDS = 1.0
"""Short steps have ended by then, and are not worth a word."""

_log = logging.getLogger(__name__)


def end_worker(worker: Attached, database_url: str, say: Callable[[str], None]) -> None:
    """Let a worker finish the steps it runs, for up to 10 s or until Ctrl-C; then kill it.

    A killed worker is marked stopped, as told to: its steps run elsewhere without waiting for its silence,
    and without being charged. Repeats safely.
    """
    with closing(Database(database_url, connections=1)) as database:
        try:
            worker.terminate()
            if worker.ended(QUIET_SECONDS) is None and (running := _running(database, worker.pid)):
                steps = "1 step still runs" if running == 1 else f"{running} steps still run"
                say(f"{steps}; ended in {STOP_SECONDS:g} s, or now by Ctrl-C")
            worker.ended(STOP_SECONDS)
        finally:
            if worker.ended() is None:
                worker.kill()
                _mark_stopped(database, worker.pid)


def _running(database: Database, pid: int) -> int:
    try:
        return database.call(queries.count_running, socket.gethostname(), pid)
    except TaskerError as error:
        _log.debug("cannot tell what still runs: %s", error)
        return 0


def _mark_stopped(database: Database, pid: int) -> None:
    host = socket.gethostname()
    try:
        mains = [
            main.id
            for main in database.call(queries.list_workers)
            if (main.host, main.pid, main.parent_id) == (host, pid, None)
        ]
        database.call(functions.stop_workers, mains, None, "shutdown")
    except TaskerError as error:
        _log.debug("its silence will tell of the killed worker: %s", error)
