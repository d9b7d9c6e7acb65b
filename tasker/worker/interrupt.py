"""Ways to stop a handler: an exception raised in its thread, and the kernel's timer."""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STDERR = 2
FIRES_AFTER_SECONDS = 0.9
FIRES_AFTER_AT_LEAST_SECONDS = 0.3
NEAR_SECONDS = 60.0


class MainThread:
    """Raises in the main thread of this process, and interrupts the system call it waits in, by SIGUSR1.

    `pending` is asked in the main thread for the exception to raise now; None lets the moment pass. A signal
    that somebody else sent goes to the handler that was there before, such as Celery's soft time limits.
    """

    def __init__(self, pending: Callable[[], BaseException | None]) -> None:
        self._pending = pending
        self._before: Any = None
        self._sent = False
        self._installed = False

    def prepare(self) -> None:
        """Listen to the signal. In the main thread, once; later calls do nothing."""
        if not self._installed:
            self._installed = True
            self._before = signal.signal(signal.SIGUSR1, self._received)

    def interrupt(self, kind: type[BaseException]) -> None:
        """Have what is pending raised, from another thread; only after `prepare`."""
        main = threading.main_thread().ident
        if main is None:
            return
        if signal.getsignal(signal.SIGUSR1) == self._received:
            self._sent = True
            signal.pthread_kill(main, signal.SIGUSR1)
        else:  # the application took the signal over; a system call is then not interrupted
            raise_in_thread(main, kind)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if not self._sent:
            if callable(self._before):
                self._before(number, frame)
            return
        self._sent = False
        raising = self._pending()
        if raising is not None:
            raise raising


def raise_in_thread(thread: int, kind: type[BaseException] | None) -> None:
    """Have `kind` raised in a thread as soon as it runs Python code; None takes back what has not been."""
    exception = ctypes.py_object(kind) if kind is not None else ctypes.py_object()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


def where(thread: int, below: str) -> TracebackType | None:
    """Where a thread is just now, as an exception raised there would say, from the module `below` inwards.

    None when it has ended.
    """
    place: TracebackType | None = None
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way, whatever its name
    while frame is not None and frame.f_globals.get("__name__") != below:
        place = TracebackType(place, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return place


class Alarm:
    """The kernel's timer over this process: kills it when a handler never lets go of the interpreter.

    It is set a little after the handler's hard limit and left alone while it stands there well enough, so
    that quick steps share one system call a second. A traceback goes to standard error first.
    An application that handles SIGALRM itself keeps it, and this timer is not set.
    """

    def __init__(self) -> None:
        self._fires_at = 0.0
        self._registered = False
        self._lock = threading.Lock()

    def cover(self, hard_at: float, now: float) -> None:
        """Fire within a second after `hard_at` (monotonic seconds)."""
        with self._lock:
            if FIRES_AFTER_AT_LEAST_SECONDS <= self._fires_at - hard_at <= FIRES_AFTER_SECONDS:
                return
            if signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
                return
            if not self._registered:
                self._registered = True
                faulthandler.register(signal.SIGALRM, file=STDERR, all_threads=True, chain=True)
            self._fires_at = hard_at + FIRES_AFTER_SECONDS
            signal.setitimer(signal.ITIMER_REAL, self._fires_at - now)

    def is_near(self) -> bool:
        """Whether it fires within a minute. One farther off can be cleared by whichever thread comes by."""
        return 0 < self._fires_at < time.monotonic() + NEAR_SECONDS

    def clear(self, unless: Callable[[], object] | None = None) -> None:
        """Do not fire; nothing happens when `unless` holds."""
        with self._lock:
            if self._fires_at and not (unless and unless()):
                self._fires_at = 0.0
                signal.setitimer(signal.ITIMER_REAL, 0)
