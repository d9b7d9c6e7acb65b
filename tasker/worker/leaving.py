"""That a worker is told to stop: known to its children and threads at once, whatever way it was told."""

from __future__ import annotations

import mmap
import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.exceptions import WorkerTerminate
from celery.platforms import EX_FAILURE

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Those by which Celery stops or restarts a worker."""


class Leaving:
    """Whether this worker is told to stop. The main process says so, in memory that its children share.

    From then on a worker begins nothing: what it has claimed and not begun is given back at once.
    """

    def __init__(self) -> None:
        self._told = mmap.mmap(-1, 1)
        self._main = os.getpid()
        self._runs_handlers = False

    def __bool__(self) -> bool:
        return self._told[0] != 0

    def begin(self) -> None:
        """Told now. Again changes nothing."""
        self._told[0] = 1

    def listen(self, *, runs_handlers: bool) -> None:
        """Hear of the signals before Celery does, which acts on some of them only after a while.

        `runs_handlers`: the main thread runs them, so that a cold shutdown has to interrupt one.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # a worker embedded in an application that keeps the signals to itself
        self._runs_handlers = runs_handlers
        self._stand_before_celery()

    def _stand_before_celery(self) -> None:
        for number in SIGNALS:
            celerys = signal.getsignal(number)
            if callable(celerys) and not isinstance(celerys, _Before):
                signal.signal(number, _Before(self._hear, celerys))

    def _hear(self, celerys: Callable[..., Any], number: int, frame: Any) -> None:
        if os.getpid() == self._main:
            self.begin()
        try:
            celerys(number, frame)
        except Exception as error:
            if not self._runs_handlers:
                raise
            # Celery cannot cancel what runs in this thread, and says so in the midst of the handler
            raise WorkerTerminate(EX_FAILURE) from error
        finally:
            self._stand_before_celery()  # it has other handlers for the second signal


class _Before(partial[None]):
    """A signal handler that stands before another."""
