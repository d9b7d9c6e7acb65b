"""`tasker coordinator`: the loops in a process of their own, for large installations."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from tasker import broker
from tasker.db import functions
from tasker.db.engine import Database
from tasker.db.migrate import require_current
from tasker.orchestration.coordinator import Coordinator
from tasker.orchestration.engine import Engine
from tasker.worker.heartbeat import beat
from tasker.worker.identity import Identity

if TYPE_CHECKING:
    from tasker.settings import Settings

_log = logging.getLogger(__name__)


def run_coordinator(settings: Settings, stopped: threading.Event, app: broker.Celery | None = None) -> None:
    """Run the loops in this thread until `stopped` is set; messages go through `app`'s broker, if given.

    Raises SchemaBehind, SettingsError.
    """
    database = Database(
        settings.require_database_url(),
        name="tasker coordinator",
        statement_timeout_seconds=settings.statement_timeout_seconds,
    )
    require_current(database.url)
    publisher = broker.Publisher(app or broker.celery_app(settings), settings)
    identity = Identity(database, "coordinator", (), ())
    identity.worker()
    every = settings.heartbeat_seconds
    beats = threading.Thread(target=beat, args=(database, identity, every, _no_news, stopped), daemon=True)
    beats.start()
    _log.info("coordinator is ready")
    Coordinator(Engine(database, publisher, settings), identity.worker).run(stopped)
    beats.join()
    publisher.flush(broker.EXIT_SECONDS)
    database.call(functions.stop_workers, [identity.worker()], None, "shutdown")
    database.close()


def _no_news() -> tuple[int, dict[str, str]]:
    return 0, {}  # a coordinator receives no messages
