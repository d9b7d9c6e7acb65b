"""The graphs that every side runs, and what their steps do: the least that can be checked.

A step's number is one more than the sum of its parents' numbers, so the last number of a graph is right only
when every step has run and every edge has carried its result.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

KILOBYTE = "x" * 1000


@dataclass(frozen=True, eq=False)
class Shape:
    """A graph: each step's parents, in an order in which it can run; the last step waits for all others.

    Its handlers sleep for `milliseconds`; `heavy` makes the context, and every result, a kilobyte.
    """

    name: str
    parents: dict[str, tuple[str, ...]]
    milliseconds: int = 0
    heavy: bool = False

    @property
    def work(self) -> str:
        """What a step does, in a word that can be part of a handler's name."""
        return "heavy" if self.heavy else f"sleep-{self.milliseconds}" if self.milliseconds else "nothing"

    @property
    def context(self) -> dict[str, Any]:
        """What a task is submitted with."""
        return {"text": KILOBYTE} if self.heavy else {}

    @property
    def last(self) -> str:
        """The step with which a task ends."""
        return next(reversed(self.parents))

    @cached_property
    def number(self) -> int:
        """The number of the last step, once all have run."""
        numbers: dict[str, int] = {}
        for step, parents in self.parents.items():
            numbers[step] = 1 + sum(numbers[parent] for parent in parents)
        return numbers[self.last]


def step_result(inputs: Iterable[Any], milliseconds: int = 0, heavy: bool = False) -> Any:  # noqa: FBT001, FBT002
    """What every handler does: sleep, and make a result of the results of the parents."""
    if milliseconds:
        time.sleep(milliseconds / 1000)
    number = 1 + sum(map(number_of, inputs))
    return {"number": number, "text": KILOBYTE} if heavy else number


def number_of(result: Any) -> int:
    """The number in a step's result."""
    return int(result["number"] if isinstance(result, dict) else result)


def _fan(width: int) -> Shape:
    middle: dict[str, tuple[str, ...]] = {f"middle-{number}": ("first",) for number in range(width)}
    return Shape(f"fan-{width}", {"first": (), **middle, "last": tuple(middle)})


_CHAIN: dict[str, tuple[str, ...]] = {"one": (), "two": ("one",), "three": ("two",), "four": ("three",)}

LINEAR = Shape("linear-4", _CHAIN)
DIAMOND = Shape("diamond-4", {"top": (), "left": ("top",), "right": ("top",), "bottom": ("left", "right")})
TREE = Shape(
    "tree-8",
    {
        "root": (),
        "left": ("root",),
        "right": ("root",),
        "left-left": ("left",),
        "left-right": ("left",),
        "right-left": ("right",),
        "right-right": ("right",),
        "join": ("left-left", "left-right", "right-left", "right-right"),
    },
)
FAN_500 = _fan(500)
FAN_10000 = _fan(10_000)
LINEAR_5_MS = Shape("linear-4-5ms", _CHAIN, milliseconds=5)
LINEAR_1_KB = Shape("linear-4-1kb", _CHAIN, heavy=True)

SHAPES = {
    shape.name: shape for shape in (LINEAR, DIAMOND, TREE, FAN_500, FAN_10000, LINEAR_5_MS, LINEAR_1_KB)
}
