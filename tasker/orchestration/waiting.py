"""Waiting for tasks: one poller for everything this process waits for, and one look for many of them."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from tasker.db import functions
from tasker.domain.errors import TaskerError, TaskNotFound
from tasker.domain.forks import forget_after_fork
from tasker.domain.states import TASK_SETTLED, TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from tasker.db.engine import Database

SHORTEST_SECONDS = 0.001
LONGEST_SECONDS = 0.25
BESIDE = 64
"""Whoever waits for one of many waits for the next: so many of them are looked at together."""
COMPLETE_SECONDS = 1.0
"""How long a `wait` takes for granted, once, that such a look has found its task complete."""

_log = logging.getLogger(__name__)


class Poller:
    """Reads the states of all waited-for tasks by primary key.

    After 1 ms, then at doubled intervals up to 250 ms; a new waiter starts at 1 ms again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waited: dict[UUID, int]
        self._settled: dict[UUID, str | TaskerError]
        self._changed: threading.Condition
        self._thread: threading.Thread | None
        self.after_fork()
        forget_after_fork(self)

    def wait(self, task: UUID, timeout: float | None) -> str | None:
        """The state in which `task` settled, None when that took more than `timeout` seconds.

        Raises TaskNotFound, and what reading the database raises.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._waited[task] = self._waited.get(task, 0) + 1
            self._interval = SHORTEST_SECONDS
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasker-poller", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            try:
                while task not in self._settled:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return None
                    self._changed.wait(left)
                found = self._settled[task]
            finally:
                self._waited[task] -= 1
                if not self._waited[task]:
                    del self._waited[task]
                    self._settled.pop(task, None)
        if isinstance(found, TaskerError):
            raise found
        return found

    def after_fork(self) -> None:
        """In a child: the thread and those who wait are the parent's."""
        self._waited, self._settled = {}, {}
        self._interval = SHORTEST_SECONDS
        self._changed = threading.Condition()
        self._thread = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waited.keys() - self._settled.keys())
                open_tasks = list(self._waited.keys() - self._settled.keys())
                interval = self._interval
                self._interval = min(2 * interval, LONGEST_SECONDS)
            time.sleep(interval)
            found = self._look(open_tasks)
            if found:
                with self._changed:
                    self._settled.update(
                        {task: state for task, state in found.items() if task in self._waited}
                    )
                    self._changed.notify_all()

    def _look(self, tasks: list[UUID]) -> dict[UUID, str | TaskerError]:
        try:
            states = self._database.call(functions.task_states, tasks)
        except TaskerError as error:
            return dict.fromkeys(tasks, error)
        except Exception as error:  # noqa: BLE001 - whoever waits has to be told, whatever it is
            _log.exception("reading task states failed")
            return dict.fromkeys(tasks, TaskerError(f"reading task states failed: {error}"))
        return {
            task: states.get(task) or TaskNotFound(f"no task {task}")
            for task in tasks
            if states.get(task, "complete") in TASK_SETTLED
        }


class Together:
    """Tasks that one call submitted, and what a look at one of them has told of the others."""

    def __init__(self, tasks: Sequence[UUID]) -> None:
        self._tasks = tasks
        self._places = {task: place for place, task in enumerate(tasks)}
        self._complete: dict[UUID, float] = {}

    def after(self, task: UUID) -> Sequence[UUID]:
        """Those that whoever waits for one after the other will ask for next."""
        place = self._places[task] + 1
        return self._tasks[place : place + BESIDE]

    def note(self, states: Mapping[UUID, str | None], now: float) -> None:
        """Remember which were complete `now` (monotonic seconds)."""
        self._complete |= dict.fromkeys(
            (t for t, state in states.items() if state == TaskState.COMPLETE), now
        )

    def was_complete(self, task: UUID, now: float) -> bool:
        """Whether a task was found complete a moment ago; true once for each time."""
        return now - self._complete.pop(task, -COMPLETE_SECONDS) < COMPLETE_SECONDS
