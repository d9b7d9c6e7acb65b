"""The thread that keeps a slow handler from holding anything back."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasker.db import functions
from tasker.domain.errors import TaskerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasker.db.engine import Database
    from tasker.domain.outcomes import Outcome
    from tasker.worker.batch import Batch

TICK_SECONDS = 0.05
REPORT_SECONDS = 10.0
SLOW_FAILURE_MS = 50.0

_log = logging.getLogger(__name__)


class Watchdog:
    """Looks after the batches of this process every 50 ms while there are any.

    `look` flushes aged outcomes, gives back steps that wait too long, and ends what ran too long. It may wait
    for the database. The watchdog also reports, now and then, how long handlers take.
    """

    def __init__(self, database: Database, look: Callable[[Sequence[Batch]], None]) -> None:
        self._database = database
        self._look = look
        self._batches: set[Batch] = set()
        self._work = Expectations()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, batch: Batch) -> Iterator[None]:
        """Look after `batch` for the length of the block."""
        with self._lock:
            self._batches.add(batch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasker-watchdog", daemon=True)
                self._thread.start()
        self._wake.set()
        try:
            yield
        finally:
            with self._lock:
                self._batches.discard(batch)

    def measured(self, outcomes: Sequence[Outcome]) -> None:
        """Note how long handlers took."""
        with self._lock:
            self._work.add(outcomes)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(TICK_SECONDS)
            with self._lock:
                batches = list(self._batches)
                due = self._work.due(time.monotonic())
                if not batches and not self._work.pending:
                    self._wake.clear()
            try:
                self._look(batches)
                if due:
                    self._database.call(functions.record_expectations, due)
            except TaskerError as error:
                _log.warning("watchdog: %s", error)
            except Exception:  # noqa: BLE001 - the next look tries again
                _log.exception("watchdog: a look failed")


class Expectations:
    """Handler times since the last report; a handler never seen before is reported at once."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, float]] = {}
        self._known: set[str] = set()
        self._reported_at = 0.0

    @property
    def pending(self) -> bool:
        """Whether there is anything to report, now or later."""
        return bool(self._sums)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Note the times of completed attempts, and of those that failed after a long time: they took it too.

        One that fails at once says nothing of how long its work takes.
        """
        for outcome in outcomes:
            took_ms = (outcome.ended - outcome.begun) * 1000
            if outcome.error is None or took_ms >= SLOW_FAILURE_MS:
                count, total = self._sums.get(outcome.step.handler, (0, 0.0))
                self._sums[outcome.step.handler] = count + 1, total + took_ms

    def due(self, now: float) -> dict[str, float]:
        """Mean milliseconds by handler, if it is time to report; empty otherwise."""
        if self._known.issuperset(self._sums) and now - self._reported_at < REPORT_SECONDS:
            return {}
        means = {handler: total / count for handler, (count, total) in self._sums.items()}
        self._known.update(means)
        self._sums = {}
        self._reported_at = now
        return means
