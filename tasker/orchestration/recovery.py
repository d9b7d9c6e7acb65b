"""Workers that died, attempts that do not end, and messages that got lost."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tasker.db import functions
from tasker.domain.errors import Unreachable
from tasker.faults import point

if TYPE_CHECKING:
    from tasker.orchestration.engine import Engine

PROBE_STEPS = 64
MAX_REPUBLISHES = 5
RECOVER_STEPS = 200

_log = logging.getLogger(__name__)


class Watch:
    """One observer's own watch over counters: beats by worker, say.

    One stands still when unbroken, successful looks over `seconds` have all seen the same count. A look that
    failed, or came `longest_gap_seconds` after the one before, starts the watch anew, so neither an outage of
    the database nor a pause of the observer condemns anybody.
    """

    def __init__(self, seconds: float, longest_gap_seconds: float) -> None:
        self._seconds = seconds
        self._longest_gap = longest_gap_seconds
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked_at = 0.0

    def look(self, counts: dict[int, int], now: float) -> dict[int, int]:
        """Note all counts as of `now`, when the look began (monotonic seconds); those that stand still."""
        before = self._seen if now - self._looked_at <= self._longest_gap else {}
        self._looked_at = now
        self._seen = {
            key: before[key] if before.get(key, (None,))[0] == count else (count, now)
            for key, count in counts.items()
        }
        return {key: count for key, (count, since) in self._seen.items() if now - since >= self._seconds}

    def forget(self) -> None:
        """Start over: the database did not answer."""
        self._seen = {}


def recover(engine: Engine, watch: Watch) -> int:
    """Stop the workers found silent and take back the steps of all stopped ones; how many steps."""
    began = time.monotonic()
    try:
        silent = watch.look(engine.database.call(functions.live_workers), began)
    except Unreachable:
        watch.forget()
        raise
    if silent:
        stopped = engine.database.call(functions.stop_workers, list(silent), list(silent.values()), "silent")
        point("after", "stop_workers")
        if stopped:
            _log.warning("workers %s are silent and taken for dead", stopped)
    return take_back(engine)


def take_back(engine: Engine) -> int:
    """Take steps back from stopped workers until none is left; how many."""
    total = 0
    while True:
        moved = engine.run(functions.recover_steps, engine.settings.max_losses, RECOVER_STEPS)
        total += moved.count
        if moved.count < RECOVER_STEPS:
            if total:
                _log.warning("%d steps of stopped workers are enqueued again", total)
            return total


def time_out(engine: Engine, watch: Watch) -> int:
    """End the attempts that this process has watched run far beyond their time; how many.

    Workers end their own; this is for handlers that leave them no way to.
    """
    began = time.monotonic()
    grace = engine.settings.timeout_grace_seconds
    try:
        overdue = watch.look(engine.database.call(functions.overdue_attempts, grace), began)
    except Unreachable:
        watch.forget()
        raise
    if not overdue:
        return 0
    ended = engine.run(functions.time_out_steps, overdue)
    _log.error("%d attempts ran far beyond their time and are ended; what they bring is refused", ended.count)
    return ended.count


def republish(engine: Engine) -> int:
    """Publish again what must have been lost, and park what nobody ever claims; how many were published.

    Nothing while this process cannot reach the broker: what it cannot send has not been published in vain.
    """
    if not engine.publisher.can_send():
        return 0
    settings = engine.settings
    began = time.monotonic()
    reply = engine.database.call(
        functions.republish_steps,
        settings.lost_message_seconds,
        settings.coordinator_batch,
        PROBE_STEPS,
        MAX_REPUBLISHES,
    )
    point("after", "republish_steps")
    engine.told(reply, began)
    if reply.count:
        _log.warning("%d steps are published again: their messages were lost", reply.count)
    if reply.unclaimable:
        parked = engine.run(functions.park_steps, reply.unclaimable)
        _log.error("%d steps were published %d times in vain and are parked", parked.count, MAX_REPUBLISHES)
    return reply.count
