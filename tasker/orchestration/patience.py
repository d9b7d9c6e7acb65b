"""Calls that must get through: what a worker has won or done is not let go because the database is away."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from tasker.domain.errors import SchemaBehind, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

T = TypeVar("T")

_log = logging.getLogger(__name__)


def until_answered(call: Callable[[], T], held: str) -> T:
    """Repeat `call` until PostgreSQL answers; `held` says in the log what waits for it.

    A function that is not there is waited for too: just now a migration may be replacing it. Only for calls
    that repeat safely, and so under one claim id. Raises everything but Unreachable and SchemaBehind.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except (Unreachable, SchemaBehind) as error:
            _log.warning("%s; %s until it is back", error, held)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
