"""What a side of the comparison can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.servers import Servers
from bench.shapes import Shape

PATIENCE_SECONDS = 300


class WrongResult(Exception):
    """A task ended without having done its work: what was measured is not the shape."""


@dataclass(frozen=True)
class Run:
    """Seconds from the first submit until the last submit returned, and until the last task ended.

    `submitted` is None for a side that runs a task where it is submitted, in the same call.
    """

    submitted: float | None
    ended: float


class Peer(Protocol):
    """A system that runs graphs durably, or Celery's canvas.

    `how` says in a few words how it is used: as its documentation advises for speed.
    """

    name: str
    how: str

    def cannot(self, shape: Shape) -> str | None:
        """Why this side has no figure for a shape; None when it has one."""

    def start(self, servers: Servers) -> None:
        """Begin to work; returns when tasks are taken."""

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:
        """Run tasks of a shape and wait for all; with `singly`, each is submitted by a call of its own.

        Raises WrongResult unless each task has ended with the number of its shape.
        """

    def stop(self) -> None:
        """Leave no process behind. What is stored stays, and `start` may be called again."""


def check(shape: Shape, numbers: list[int], count: int) -> None:
    """Raises WrongResult unless `count` tasks ended, each with the number of the shape."""
    if numbers != [shape.number] * count:
        wrong = [number for number in numbers if number != shape.number]
        raise WrongResult(
            f"{len(numbers)} of {count} tasks of {shape.name} ended, {len(wrong)} of them not with "
            f"{shape.number} but with {wrong[:3]}"
        )
