"""The sign of life of a main process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tasker.db import functions
from tasker.domain.errors import Unreachable
from tasker.faults import point

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from tasker.db.engine import Database
    from tasker.worker.identity import Identity

_log = logging.getLogger(__name__)


def beat(
    database: Database,
    identity: Identity,
    every_seconds: float,
    news: Callable[[], tuple[int, Mapping[str, str]]],
    stopped: threading.Event,
) -> None:
    """Beat until `stopped` is set, and register anew when taken for dead. Survives whatever a beat raises.

    `news` tells how many messages this worker could start at once, and per queue the newest publication
    time received since the last beat.
    """
    while not stopped.wait(every_seconds):
        try:
            point("before", "beat")
            worker = identity.worker()
            if not database.call(functions.beat_worker, worker, *news()):
                _log.warning("this worker was taken for dead; it registers anew")
                identity.renew(worker)
                identity.worker()
        except Unreachable as error:
            _log.warning("heartbeat: %s", error)
        except Exception:  # noqa: BLE001 - a worker without heartbeat is taken for dead
            _log.exception("heartbeat failed")
