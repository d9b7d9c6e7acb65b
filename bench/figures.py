"""What is measured of each side, and how the rounds are drawn together."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from bench.peers.peer import Peer
from bench.servers import Servers
from bench.shapes import Shape

WARM_UP_TASKS = 20
WARM_UP_SECONDS = 5.0
FEWEST_TASKS = 4
LONGEST_REASON = 200
WIDE_STEPS = 100
SLOW_SECONDS = 10.0
"""A side that would need longer for a throughput runs fewer tasks; a rate does not depend on their number."""


class Kind(Enum):
    """How a figure is taken; the value is its unit."""

    LATENCY = "ms"
    TOGETHER = "steps/s"
    BURST = "steps/s, one call each"
    SUBMITS = "submits/s"
    SECONDS = "s"

    @property
    def lower_is_better(self) -> bool:
        """For times; not for rates."""
        return self in {Kind.LATENCY, Kind.SECONDS}


@dataclass(frozen=True)
class Figure:
    """One line of the table: `tasks` of a shape, one at a time for a latency, else all at once."""

    kind: Kind
    shape: Shape
    tasks: int

    @property
    def name(self) -> str:
        """What it says in the table."""
        tasks = f"{self.tasks:,}".replace(",", " ")
        match self.kind:
            case Kind.LATENCY:
                return f"{self.shape.name}, one at a time"
            case Kind.TOGETHER:
                return f"{tasks} {self.shape.name} at once"
            case Kind.BURST:
                return f"{tasks} {self.shape.name} in a burst"
            case Kind.SUBMITS:
                return f"{tasks} {self.shape.name} submitted"
            case Kind.SECONDS:
                return f"one {self.shape.name}"

    def of(self, peer: Peer, tasks: int) -> float | None:
        """Take it once, with so many tasks; None when the side has none. Raises WrongResult."""
        if self.kind is Kind.LATENCY:
            return 1000 * statistics.median(peer.run(self.shape, 1).ended for _ in range(tasks))
        run = peer.run(self.shape, tasks, singly=self.kind is not Kind.TOGETHER)
        if self.kind is Kind.SECONDS:
            return run.ended
        if self.kind is Kind.SUBMITS:
            return tasks / run.submitted if run.submitted else None
        return len(self.shape.parents) * tasks / run.ended

    def affordable(self, seconds_each: float) -> int:
        """How many tasks a side can have whose tasks take so long."""
        return min(self.tasks, max(FEWEST_TASKS, int(SLOW_SECONDS / seconds_each)))


@dataclass(frozen=True)
class Taken:
    """The values of a figure: by side, one for each round; or why a side has none."""

    figure: Figure
    values: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def ratios(self, peer: str, to: str) -> list[float]:
        """In each round, how many times better one side was than another."""
        pairs = zip(self.values[peer], self.values[to], strict=True)
        return [theirs / own if self.figure.kind.lower_is_better else own / theirs for own, theirs in pairs]


class Turn:
    """Some sides at work, warmed up."""

    def __init__(self, peers: Sequence[Peer], servers: Servers, shapes: Iterable[Shape]) -> None:
        self._peers = peers
        self._servers = servers
        self._shapes = list(dict.fromkeys(shapes))
        self._seconds: dict[tuple[str, Shape], float] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for peer in self._peers:
                peer.start(self._servers)
                stack.callback(peer.stop)
            for peer in self._peers:
                for shape in self._shapes:
                    if peer.cannot(shape) is None:
                        self._seconds[peer.name, shape] = _warm_up(peer, shape)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def take(self, taken: Taken) -> None:
        """Add a value to a figure for each side that has one."""
        figure = taken.figure
        for peer in self._peers:
            reason = peer.cannot(figure.shape)
            if reason is not None:
                taken.missing[peer.name] = reason
                continue
            value = figure.of(peer, figure.affordable(self._seconds[peer.name, figure.shape]))
            if value is None:
                taken.missing[peer.name] = "a submit returns when the task has ended"
            else:
                taken.values.setdefault(peer.name, []).append(value)


def take(
    figures: Sequence[Figure], peers: Sequence[Peer], servers: Servers, *, rounds: int, alone: bool
) -> list[Taken]:
    """All figures of all sides, in rounds, so that what disturbs the machine disturbs every side.

    With `alone`, the processes of the other sides are gone while one is measured.
    """
    found = [Taken(figure) for figure in figures]
    shapes = [figure.shape for figure in figures]
    if not alone:
        with Turn(peers, servers, shapes) as turn:
            for taken in found * rounds:
                turn.take(taken)
        return found
    for number in range(rounds):
        for peer in peers:
            print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr, flush=True)
            _one_turn(peer, servers, found)
    return found


def _one_turn(peer: Peer, servers: Servers, found: Iterable[Taken]) -> None:
    """A side that fails loses its figures, and the others keep theirs."""
    open_figures = [taken for taken in found if peer.name not in taken.missing]
    try:
        with Turn([peer], servers, [taken.figure.shape for taken in open_figures]) as turn:
            for taken in open_figures:
                turn.take(taken)
    except Exception as error:  # noqa: BLE001 - whatever another system raises
        for taken in open_figures:
            taken.values.pop(peer.name, None)
            taken.missing[peer.name] = f"failed: {error!r}"[:LONGEST_REASON]


def _warm_up(peer: Peer, shape: Shape) -> float:
    """Seconds that a task takes among others, once all is loaded, planned and known."""
    first = peer.run(shape, 1).ended
    if len(shape.parents) > WIDE_STEPS:
        return first
    tasks = min(WARM_UP_TASKS, max(FEWEST_TASKS, int(WARM_UP_SECONDS / first)))
    return peer.run(shape, tasks).ended / tasks
