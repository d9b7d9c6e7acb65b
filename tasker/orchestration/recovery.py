"""Workers that died and messages that got lost."""

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


class SilentWorkers:
    """One observer's own watch over the beats of workers.

    A worker is silent when unbroken, successful looks over `silence_seconds` have all seen the same beat.
    A look that failed, or came `longest_gap_seconds` after the one before, starts the watch anew, so neither
    an outage of the database nor a pause of the observer declares anybody dead.
    """

    def __init__(self, silence_seconds: float, longest_gap_seconds: float) -> None:
        self._silence = silence_seconds
        self._longest_gap = longest_gap_seconds
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked_at = 0.0

    def look(self, beats: dict[int, int], now: float) -> dict[int, int]:
        """Note all beats as of `now`, when the look began (monotonic seconds); the silent workers' beats."""
        before = self._seen if now - self._looked_at <= self._longest_gap else {}
        self._looked_at = now
        self._seen = {
            worker: before[worker] if before.get(worker, (None,))[0] == count else (count, now)
            for worker, count in beats.items()
        }
        return {
            worker: count for worker, (count, since) in self._seen.items() if now - since >= self._silence
        }

    def forget(self) -> None:
        """Start over: the database did not answer."""
        self._seen = {}


def recover(engine: Engine, watch: SilentWorkers) -> int:
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


def republish(engine: Engine) -> int:
    """Publish again what must have been lost, and park what nobody ever claims; how many were published."""
    settings = engine.settings
    reply = engine.database.call(
        functions.republish_steps,
        settings.lost_message_seconds,
        settings.coordinator_batch,
        PROBE_STEPS,
        MAX_REPUBLISHES,
    )
    point("after", "republish_steps")
    engine.told(reply)
    if reply.count:
        _log.warning("%d steps are published again: their messages were lost", reply.count)
    if reply.unclaimable:
        parked = engine.run(functions.park_steps, reply.unclaimable)
        _log.error("%d steps were published %d times in vain and are parked", parked.count, MAX_REPUBLISHES)
    return reply.count
