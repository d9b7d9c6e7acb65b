"""In-process lifecycle events: a blinker signal per event, sent after the commit, receivers isolated."""

from __future__ import annotations

import logging
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from blinker import Namespace

from tasker.domain.errors import NotFound
from tasker.events.catalogue import EVENT_NAMES, Event, event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tasker.domain.replies import Transition

Receiver = TypeVar("Receiver", bound="Callable[[Event], object]")

_log = logging.getLogger(__name__)
_signals = Namespace()
for _name in EVENT_NAMES:
    _signals.signal(_name)


def on(name: str) -> Callable[[Receiver], Receiver]:
    """Call the decorated function with an `Event` each time `name` happens through this process.

    It runs after the commit, in the process and thread that made the move: in workers for what they
    finish, in the application for what it submits. A receiver that raises is logged and hurts nobody; an
    event may be missed when the process dies. Raises NotFound for a name that is not in the catalogue.
    """
    if name not in _signals:
        near = get_close_matches(name, EVENT_NAMES, 1)
        raise NotFound(
            f"no event {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {EVENT_NAMES}")
        )

    def connect(receiver: Receiver) -> Receiver:
        _signals.signal(name).connect(receiver, weak=False)
        return receiver

    return connect


def off(name: str, receiver: Callable[[Event], object]) -> None:
    """Stop calling `receiver` for `name`; nothing happens if it was not called."""
    _signals.signal(name).disconnect(receiver)


def wanted() -> bool:
    """Whether this process has any receiver; only then are moves read back from the database."""
    return any(signal.receivers for signal in _signals.values())


def emit(moves: Iterable[Transition]) -> None:
    """Tell this process's receivers about committed moves. The only caller of blinker.

    blinker's own `send` stops at the first receiver that raises and skips the others, so each is called here.
    """
    for move in moves:
        event = event_of(move)
        for receiver in _signals.signal(event.name).receivers_for(None):
            try:
                receiver(event)
            except Exception:  # noqa: BLE001 - a receiver may raise anything
                _log.exception("receiver %r of %s failed", receiver, event.name)
