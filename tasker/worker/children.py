"""The children of a prefork worker: bound to their main's life, and missed as soon as they vanish."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tasker.db import functions
from tasker.domain.errors import Unreachable
from tasker.faults import point
from tasker.orchestration.recovery import take_back

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from tasker.db.engine import Database
    from tasker.orchestration.engine import Engine
    from tasker.worker.identity import Identity
    from tasker.worker.leaving import Leaving

PR_SET_PDEATHSIG = 1

_log = logging.getLogger(__name__)


class Children:
    """A main process's watch over its children.

    Who should be alive is read from the database each time, not remembered: a child may come, claim and
    vanish between two looks, or register in its last moment.
    """

    def __init__(
        self,
        pool: Any,
        replace: Callable[[], object],
        engine: Engine,
        beats: Database,
        identity: Identity,
        *,
        leaving: Leaving,
    ) -> None:
        """`replace` has the pool start others for those that have ended; it is called in another thread."""
        self._pool = pool
        self._replace = replace
        self._engine = engine
        self._database = beats
        self._identity = identity
        self._leaving = leaving
        self._missed: set[int] = set()

    def run(self, every_seconds: float, stopped: threading.Event) -> None:
        """Look every so often until `stopped` is set. Survives whatever a look raises."""
        while not stopped.wait(every_seconds):
            try:
                self.look()
            except Unreachable as error:
                _log.debug("children are not watched: %s", error)  # the heartbeat warns of it
            except Exception:  # noqa: BLE001 - a child that nobody misses would keep its steps for ever
                _log.exception("looking after the children failed")

    def look(self) -> None:
        """Stop the rows of children whose processes are gone, and take their steps back."""
        rows = self._database.call(functions.live_children, self._identity.worker())
        own = self._pool._pool  # noqa: SLF001 - Celery offers no other list
        if own is None:  # the worker stops, and has ended them all
            return
        # a process that is being started has no pid yet
        pool = {process.pid for process in list(own._pool) if process.pid is not None}  # noqa: SLF001
        missed = {child for child, pid in rows.items() if pid not in pool}
        # a child can be heard of before its pool knows it, and another's process may have taken over its pid
        gone = [child for child in rows if _has_ended(rows[child]) or child in self._missed & missed]
        self._missed = missed
        if gone:
            if not self._leaving:
                self._replace()
            because = "shutdown" if self._leaving else "process_gone"
            self._database.call(functions.stop_workers, gone, None, because)
            point("after", "stop_children")
            take_back(self._engine)


def die_with_parent(parent: int) -> None:
    """In a child: be killed when its main dies, now if it is dead already.

    Linux only. Elsewhere a child outlives its main until its handler ends, and is fenced.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request
        os.kill(os.getpid(), signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    """Whether there is no such process, or a child of ours that has ended and that nobody has waited for.

    Celery looks for ended children every 5 s; it is left to reap them. macOS cannot tell before it has.
    """
    if sys.platform != "darwin":
        with suppress(ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
