"""Commit, then publish, then tell: the one order in which a move leaves a process."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tasker.db import functions
from tasker.db.diagnosis import is_test_database
from tasker.events import signals
from tasker.faults import arm, point

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasker.broker import Publisher
    from tasker.db.engine import Database
    from tasker.domain.replies import Group, Moved, Transition
    from tasker.settings import Settings


class Reply(Protocol):
    """What every moving function answers."""

    @property
    def publish(self) -> Sequence[Group]:
        """Steps to publish."""

    @property
    def at(self) -> str:
        """The database's time of the move."""

    @property
    def moves(self) -> Sequence[Transition]:
        """The transitions it wrote, when they were asked for."""


R = TypeVar("R", bound=Reply)


class Engine:
    """A process's way to move things: its database, its publisher, its receivers of events."""

    def __init__(self, database: Database, publisher: Publisher, settings: Settings) -> None:
        self.database = database
        self.publisher = publisher
        self.settings = settings
        arm(partial(database.call, is_test_database))

    def run(self, function: Callable[..., R], *arguments: Any, **keywords: Any) -> R:
        """Call a moving function of `db.functions`; publish what it enqueued, and emit events.

        Repeats as safely as the function. Raises what the function raises, and Unreachable.
        """
        began = time.monotonic()
        point("before", function.__name__)
        reply = self.database.call(function, *arguments, moves=signals.wanted(), **keywords)
        point("after", function.__name__)
        self.told(reply, began)
        return reply

    def told(self, reply: Reply, began: float) -> None:
        """Publish and emit what a committed reply holds; its call `began` then (monotonic seconds)."""
        self.publisher.publish(reply.publish, reply.at, began, self._freshen)
        if reply.moves:
            signals.emit(reply.moves)

    def _freshen(self, steps: list[int], at: str) -> Moved:
        return self.database.call(functions.freshen_steps, steps, at)
