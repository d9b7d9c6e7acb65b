"""What one message led to, shared by the thread that runs handlers and the watchdog."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker.domain.outcomes import Outcome
    from tasker.domain.replies import ClaimedStep


class Batch:
    """Steps claimed and not begun, outcomes finished and not recorded. Taking either is atomic.

    Its handlers run in the thread that made it.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.thread = threading.get_ident()
        self.began = time.monotonic()
        self.claimed_at = self.began
        self.unbegun: deque[ClaimedStep] = deque()
        self.contexts: dict[str, dict[str, Any]] = {}
        self._finished: list[Outcome] = []
        self._lock = threading.Lock()

    def add(self, steps: Sequence[ClaimedStep]) -> None:
        """Steps to run, in order."""
        self.claimed_at = time.monotonic()
        self.unbegun.extend(steps)

    def take(self) -> ClaimedStep | None:
        """The next step to run; whoever gets it is the only one."""
        try:
            return self.unbegun.popleft()
        except IndexError:
            return None

    def take_all(self) -> list[ClaimedStep]:
        """Every step not begun, to be given back."""
        taken = []
        while step := self.take():
            taken.append(step)
        return taken

    def finished(self, outcome: Outcome) -> None:
        """An outcome to record."""
        with self._lock:
            self._finished.append(outcome)

    def take_finished(self, older_than: float = float("inf")) -> list[Outcome]:
        """All outcomes to record, if the first of them ended before `older_than` (monotonic seconds)."""
        with self._lock:
            if not self._finished or self._finished[0].ended > older_than:
                return []
            taken, self._finished = self._finished, []
            return taken
