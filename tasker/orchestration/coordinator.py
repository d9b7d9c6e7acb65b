"""The loops: time-driven work, paced by a row per loop, correct however many processes run them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tasker.db import functions
from tasker.domain.errors import Unreachable
from tasker.faults import point
from tasker.orchestration.recovery import Watch, recover, republish, time_out

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from tasker.orchestration.engine import Engine

AFTER_FAILURE_SECONDS = 1.0
EXPIRE_TASKS = 100
HELD_BATCHES = 4
"""So many times the steps of a batch: held ones cost little, and each call reads first what is published."""
CROWDED_SECONDS = 0.25
"""Between two passes over held steps while a queue is full: half of the work that may be published."""

_log = logging.getLogger(__name__)


class Coordinator:
    """The loops of one process. Each pass does what is due and returns the seconds until its next one."""

    def __init__(self, engine: Engine, worker: Callable[[], int | None]) -> None:
        self._engine = engine
        self._worker = worker
        silence, period = engine.settings.silence_seconds, engine.settings.recovery_seconds
        gap = max(silence / 2, 3 * period)
        self._beats = Watch(silence, gap)
        # later than the beats: the steps of a dead worker are lost, not too slow
        self._overdue = Watch(silence + 2 * period, gap)
        self.passes: tuple[Callable[[], float], ...] = (
            self.start_due,
            self.recover_lost,
            self.time_out,
            self.expire,
            self.republish_lost,
        )

    def start_due(self) -> float:
        """Retries, timers, tasks for later; then held steps for which there is room.

        While steps wait for room the next pass is early: a queue has to be filled before its workers have
        emptied it, which takes them twice as long.
        """
        settings = self._engine.settings
        often = min(settings.coordinator_seconds, CROWDED_SECONDS)
        if not self._my_turn("start_due", often):
            return settings.coordinator_seconds
        limit = settings.coordinator_batch
        turn_ends = time.monotonic() + often
        while True:
            due = self._engine.run(functions.due_steps, limit)
            dispatched = self._engine.run(functions.dispatch_steps, HELD_BATCHES * limit)
            if due.count < limit and dispatched.count < HELD_BATCHES * limit:
                return often if dispatched.closed else settings.coordinator_seconds
            if time.monotonic() >= turn_ends:
                return 0.0

    def recover_lost(self) -> float:
        """Steps of dead workers. Each process watches by itself, so this is not paced."""
        recover(self._engine, self._beats)
        return self._engine.settings.recovery_seconds

    def time_out(self) -> float:
        """Attempts that run far beyond their time. Each process watches by itself, so this is not paced."""
        time_out(self._engine, self._overdue)
        return self._engine.settings.recovery_seconds

    def expire(self) -> float:
        """Tasks whose deadline has passed, and steps that nobody has begun in time."""
        settings = self._engine.settings
        if not self._my_turn("expire", settings.recovery_seconds):
            return settings.recovery_seconds
        expired = self._engine.run(functions.expire_tasks, EXPIRE_TASKS)
        if expired.count:
            _log.warning("%d tasks missed their deadlines and are ended", expired.count)
        missed = self._engine.run(functions.expire_steps, settings.coordinator_batch)
        if missed.count:
            _log.warning("%d steps were not begun in time and are ended", missed.count)
        more = expired.looked_at >= EXPIRE_TASKS or missed.count >= settings.coordinator_batch
        return 0.0 if more else settings.recovery_seconds

    def republish_lost(self) -> float:
        """Lost messages."""
        settings = self._engine.settings
        if not self._my_turn("republish_lost", settings.recovery_seconds):
            return settings.recovery_seconds
        return 0.0 if republish(self._engine) >= settings.coordinator_batch else settings.recovery_seconds

    def run(self, stopped: threading.Event) -> None:
        """Run the loops in this thread until `stopped` is set. Survives whatever a pass raises."""
        due = dict.fromkeys(self.passes, 0.0)
        while not stopped.is_set():
            for run_pass in self.passes:
                if due[run_pass] <= time.monotonic():
                    due[run_pass] = time.monotonic() + self._safely(run_pass)
            stopped.wait(max(0.0, min(due.values()) - time.monotonic()))

    def _my_turn(self, loop: str, seconds: float) -> bool:
        # a little less than the period, so that one process alone is never late for its own turn
        return self._engine.database.call(functions.take_turn, loop, 0.9 * seconds, self._worker())

    def _safely(self, run_pass: Callable[[], float]) -> float:
        try:
            point("before", run_pass.__name__)
            seconds = run_pass()
            point("after", run_pass.__name__)
            return seconds
        except Unreachable as error:
            _log.warning("coordinator: %s", error)
        except Exception:  # noqa: BLE001 - the loops outlive any defect of one pass
            _log.exception("coordinator: a pass failed")
        return AFTER_FAILURE_SECONDS
