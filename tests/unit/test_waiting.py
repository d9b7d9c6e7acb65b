"""How often a process that waits for tasks looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from tasker.orchestration import waiting
from tasker.orchestration.waiting import Poller, Together

LOOKS = 11


class Slow:
    """A database in whose answers a task settles at the eleventh look."""

    def __init__(self) -> None:
        self.looks = 0

    def call(self, _: object, tasks: Sequence[UUID]) -> dict[UUID, str]:
        self.looks += 1
        return dict.fromkeys(tasks, "in_progress" if self.looks % LOOKS else "complete")


def test_looks_at_a_task_are_doubly_far_apart_up_to_a_quarter_of_a_second_and_close_again_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=waiting.time.monotonic)
    monkeypatch.setattr(waiting, "time", clock)
    poller = Poller(cast("Any", Slow()))
    doubled = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.25, 0.25]
    for _ in range(2):
        assert poller.wait(uuid4(), timeout=10) == "complete"
        assert slept == doubled
        slept.clear()


def test_of_tasks_submitted_together_one_look_tells_which_of_the_next_64_are_complete() -> None:
    tasks = [uuid4() for _ in range(100)]
    together = Together(tasks)
    assert together.after(tasks[10]) == tasks[11:75]
    assert together.after(tasks[99]) == []
    together.note({tasks[1]: "complete", tasks[2]: "error", tasks[3]: "in_progress"}, now=50.0)
    assert [together.was_complete(task, 50.9) for task in tasks[:4]] == [False, True, False, False]


def test_what_a_look_has_told_is_believed_once_and_for_a_second() -> None:
    task = uuid4()
    together = Together([task])
    together.note({task: "complete"}, now=50.0)
    assert not together.was_complete(task, 51.1)
    together.note({task: "complete"}, now=60.0)
    assert together.was_complete(task, 60.5)
    assert not together.was_complete(task, 60.6)
