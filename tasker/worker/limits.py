"""How long a handler may run: it is told when its time is over, and given up when it does not end."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tasker.domain.errors import StepCancelled, StepTimeout
from tasker.worker.interrupt import Alarm, MainThread, raise_in_thread

if TYPE_CHECKING:
    import asyncio

    from tasker.domain.replies import ClaimedStep
    from tasker.settings import Settings

TICK_SECONDS = 0.1
LAST_WORDS_SECONDS = 1.0
"""For a child to record what it can before it ends itself; a database that says nothing gets no more."""
LOOP_PATIENCE_SECONDS = 0.5
"""How long an event loop may take to see that its task is cancelled; after that its thread is interrupted."""

_log = logging.getLogger(__name__)


class Running:
    """One handler at work. At `soft_at` it is told (once), at `hard_at` given up; monotonic seconds."""

    # on the class until one is set, which few handlers live to see
    armed = True
    """Whether the handler still runs."""
    kind: type[StepTimeout | StepCancelled] = StepTimeout
    told_at: float | None = None
    raised = False
    cancelled = False
    given_up = False
    has_last_words = False
    task: asyncio.Task[object] | None = None

    def __init__(self, step: ClaimedStep, begun: float, grace: float) -> None:
        self.step = step
        self.thread = threading.get_ident()
        self.begun = self.asked_at = begun
        self.soft_at = begun + step.timeout_ms / 1000
        self.hard_at = self.soft_at + grace

    def is_cancelled(self) -> bool:
        """Whether somebody has ended this attempt."""
        return self.cancelled

    def error(self) -> StepTimeout | StepCancelled:
        """What the handler is told."""
        step, seconds = self.step, self.step.timeout_ms / 1000
        if self.kind is StepTimeout:
            return StepTimeout(f"{step.name} ran longer than its {seconds:g} s (timeout_seconds)")
        return StepCancelled(f"attempt {step.attempt} of {step.name} was ended by somebody else")


class Limits:
    """The handlers at work in this process, and the thread that watches their time.

    The thread never waits for a database or a broker, so an outage of either lengthens no limit.
    """

    def __init__(self, settings: Settings, *, may_die: bool) -> None:
        """`may_die`: this process is a pool's child, which is replaced when it ends."""
        self._grace = settings.timeout_grace_seconds
        self._cancel_grace = settings.cancel_grace_seconds
        self._running: dict[int, Running] = {}
        self._lock = threading.Lock()
        self._alarm = Alarm() if may_die else None
        self._main = MainThread(self._pending_in_main)
        self._main_thread = threading.main_thread().ident
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, step: ClaimedStep) -> Running:
        """A handler is about to be called in this thread; `end` must follow."""
        now = time.monotonic()
        running = Running(step, now, self._grace)
        if running.thread == self._main_thread:
            self._main.prepare()
        self._running[running.thread] = running
        if self._alarm is not None:
            self._alarm.cover(running.hard_at, now)
        if not self._wake.is_set():
            self._start()
        return running

    def end(self, running: Running) -> None:
        """The handler has ended, and nothing is raised in its thread once this returns.

        What the handler was told may still be raised here, once; then call it again.
        """
        running.armed = False
        with self._lock:
            self._running.pop(running.thread, None)
            if running.told_at is not None:
                raise_in_thread(running.thread, None)

    def rest(self) -> None:
        """No handler runs until the next `begin`: this process is the application's meanwhile."""
        if self._alarm is not None and self._alarm.is_near():
            self._alarm.clear()

    def of(self, thread: int) -> Running | None:
        """The handler at work in a thread."""
        return self._running.get(thread)

    def cancel(self, running: Running) -> None:
        """Somebody ended this attempt: the handler may read so now, is told later, then given up."""
        with self._lock:
            if running.cancelled:
                return
            running.cancelled = True
            if running.told_at is None:
                running.kind = StepCancelled
                running.soft_at = min(running.soft_at, time.monotonic() + self._cancel_grace)
                running.hard_at = running.soft_at + self._grace

    def give_up(self, running: Running) -> bool:
        """Whether it is this call that gives the handler up; it is not when the handler has ended."""
        with self._lock:
            if not running.armed or running.given_up:
                return False
            running.given_up = True
            return True

    def look(self, now: float) -> None:
        """Tell the handlers whose time is over. The thread's part, without its waiting."""
        for running in list(self._running.values()):
            if now >= running.hard_at and self._alarm is not None and not running.has_last_words:
                # this process can end itself, and in better order: unless it comes to a stop on the way
                running.has_last_words = True
                self._alarm.cover(now + LAST_WORDS_SECONDS, now)
            if now >= running.soft_at:
                self._tell(running, now)

    def _tell(self, running: Running, now: float) -> None:
        with self._lock:
            if not running.armed:
                return
            if running.told_at is None:
                running.told_at = now
                task = running.task
                if task is None:
                    self._interrupt(running)
                else:
                    with suppress(RuntimeError):  # the loop was closed
                        task.get_loop().call_soon_threadsafe(_cancel, running, task)
            elif running.task is not None and now - running.told_at >= LOOP_PATIENCE_SECONDS:
                self._interrupt(running)

    def _interrupt(self, running: Running) -> None:
        if running.raised:
            return
        running.raised = True
        if running.thread == self._main_thread:
            self._main.interrupt(running.kind)
        else:
            raise_in_thread(running.thread, running.kind)

    def _pending_in_main(self) -> BaseException | None:
        running = self._running.get(self._main_thread or 0)
        if running is None or not running.armed or not running.raised:
            return None
        return running.error()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasker-limits", daemon=True)
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(TICK_SECONDS)
            try:
                self.look(time.monotonic())
            except Exception:  # noqa: BLE001 - the limits of later handlers depend on this thread
                _log.exception("a look at the limits failed")
            self._wake.clear()
            if self._running:
                self._wake.set()
            elif self._alarm is not None:
                self._alarm.clear(unless=lambda: self._running)


def _cancel(running: Running, task: asyncio.Task[object]) -> None:
    """In the event loop: the way coroutines expect to be stopped."""
    if not running.raised:
        running.raised = True
        task.cancel()
