"""What `tasker demo` and the tests know of an example: what to submit, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasker import Task


def no_effects(task: Task) -> Mapping[str, Any]:  # noqa: ARG001 - the shape that `Example.effects` has
    """For an example that changes nothing outside of its results."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example.

    `template` and `context` are what to submit. `expected` is worked out in another way than the steps do:
    results by step, and whatever `effects` finds that the task has done to the world.
    """

    template: Any
    context: dict[str, Any]
    expected: Callable[[], Mapping[str, Any]]
    effects: Callable[[Task], Mapping[str, Any]] = field(default=no_effects)

    def found(self, task: Task) -> dict[str, Any]:
        """What came of a complete task, to be compared with `expected`."""
        effects = self.effects(task)
        return {name: effects[name] if name in effects else task.result(name) for name in self.expected()}
