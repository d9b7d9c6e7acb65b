"""Mixed load for a soak, and what must have come of it."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import NamedTuple

from tasker import Task, TaskRequest
from tasker.domain.errors import StateConflict, Unreachable
from tests.faults.stand import Stand

TEMPLATES = ("linear", "diamond", "tree", "writing", "writing", "hanging")
OPEN_TASKS = 80
AT_ONCE = 20
SETTLED = {"complete", "error", "cancelled"}
RETRIED = {"linear", "diamond", "tree"}
ATTEMPTS = 3
CANCELLED = 0.05
WITH_DEADLINE = 0.05
PAUSED = 0.05


class Expected(NamedTuple):
    """A task and how it may end."""

    task: Task
    ends: set[str]


class Load:
    """Submits as fast as tasks settle.

    Retries, failures for good, cancels, pauses, missed deadlines, handlers that hang and steps that write in
    their own transactions are among them.
    """

    def __init__(self, stand: Stand, rng: random.Random) -> None:
        self._stand = stand
        self._random = rng
        self._open: list[Expected] = []
        self._paused: list[Task] = []
        self._number = 0
        self.settled = 0
        self.by_state: dict[str, int] = {}
        self.odd: list[str] = []

    @property
    def submitted(self) -> int:
        return self.settled + len(self._open)

    @property
    def open(self) -> int:
        return len(self._open)

    def tend(self) -> None:
        """Note what has settled, and submit and cancel some; a database that is away changes nothing."""
        try:
            self._look()
            self._resume()
            if len(self._open) < OPEN_TASKS:
                self._submit()
        except Unreachable:
            time.sleep(0.2)

    def finish(self, seconds: float) -> None:
        """Wait until all have settled."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            try:
                self._resume()
                self._look()
            except Unreachable:
                continue
            time.sleep(0.2)
        for task, _ in self._open:
            self.odd.append(f"task {task.id} is not settled: {'; '.join(task.why())}")

    def _submit(self) -> None:
        requests, ends = [], []
        for _ in range(AT_ONCE):
            self._number += 1
            request, may_end = self._request()
            requests.append(request)
            ends.append(may_end)
        while True:
            try:
                # under keys: a submit whose answer was lost is repeated and finds what it made
                tasks = self._stand.tasker.submit_many(requests)
                break
            except Unreachable:
                time.sleep(0.2)
        self._open += map(Expected, tasks, ends)
        for task, may_end in zip(tasks, ends, strict=True):
            if "cancelled" in may_end:
                self._cancel(task)
            elif self._random.random() < PAUSED:
                self._pause(task)

    def _request(self) -> tuple[TaskRequest, set[str]]:
        name = self._random.choice(TEMPLATES)
        failures = self._random.choice((0, 0, 0, 0, 1, 2, 3)) if name in RETRIED else 0
        context = {
            "seconds": self._random.choice((0, 0.002, 0.01, 0.05)),
            "troubled": self._random.choice("abcd"),
            "failures": failures,
        }
        ends = {"error"} if failures >= ATTEMPTS else {"complete"}
        deadline = None
        if self._random.random() < CANCELLED:
            ends = ends | {"cancelled"}
        elif self._random.random() < WITH_DEADLINE:
            deadline = self._random.choice((0.05, 1.0, 600.0))
            ends = ends | {"error"}
        if name == "writing":  # an attempt whose connection is lost has failed, like any that raises
            ends = ends | {"error"}
        key = f"soak-{self._number}"
        request = TaskRequest(f"load/{name}", context, idempotency_key=key, deadline_seconds=deadline)
        return request, ends

    def _pause(self, task: Task) -> None:
        with suppress(StateConflict, Unreachable):
            task.pause()
            self._paused.append(task)

    def _resume(self) -> None:
        """What was paused earlier goes on; a call whose answer is lost is made again."""
        while self._paused:
            with suppress(StateConflict):
                self._paused[0].resume()
            self._paused.pop(0)

    def _cancel(self, task: Task) -> None:
        with suppress(StateConflict, Unreachable):
            task.cancel()

    def _look(self) -> None:
        states = dict(
            self._stand.rows(
                "select id, state from tasker.tasks where id = any(%s)", [each.task.id for each in self._open]
            )
        )
        still = []
        for each in self._open:
            state = states.get(each.task.id, "absent")
            if state == "absent":
                self.odd.append(f"task {each.task.id} is gone, though its submit was answered")
            elif state not in SETTLED:
                still.append(each)
                continue
            elif state not in each.ends:
                why = "; ".join(each.task.why()) or "nothing is unfinished"
                self.odd.append(f"task {each.task.id} is {state}, expected {sorted(each.ends)}: {why}")
            self.settled += 1
            self.by_state[state] = self.by_state.get(state, 0) + 1
        self._open = still
