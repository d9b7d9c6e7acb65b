"""`tasker worker`: a Celery worker in this process, started by us rather than by Celery's command line."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from celery import concurrency, signals
from celery.platforms import SecurityWarning
from celery.utils.nodenames import gethostname, nodename

from tasker.broker import OwnCelery
from tasker.db.migrate import require_current
from tasker.worker import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery import Celery

_log = logging.getLogger(__name__)


def run_worker(
    app: Celery,
    *,
    processes: int | None,
    queues: Sequence[str] | None,
    pool: str | None,
    coordinates: bool,
    log_level: str,
    configure_logs: Callable[[], None],
) -> int:
    """Run a worker of `app` in this thread, which must be the main one, until it is told to stop.

    None takes what the app says: its concurrency (else one process per CPU), its queues, its pool (else
    prefork). `configure_logs` is called here and in each child. Returns the exit code. Raises SchemaBehind,
    SettingsError, TemplateError and Unreachable before anything runs.
    """
    require_current(app.tasker_settings.require_database_url())
    registry.process.check()
    configure_logs()
    signals.setup_logging.connect(lambda **_: configure_logs(), weak=False)
    signals.worker_ready.connect(_say_ready, weak=False)
    worker = app.Worker(
        hostname=nodename(f"tasker-{os.getpid()}", gethostname()),
        concurrency=processes,
        queues=None if queues is None else list(queues),
        pool_cls=concurrency.get_implementation(pool or app.conf.worker_pool),
        loglevel=log_level,
        quiet=True,
        no_coordinator=not coordinates,
        **_features(app),
    )
    worker.start()
    return int(worker.exitcode or 0)


def _features(app: Celery) -> dict[str, bool]:
    """Workers of our own app have nothing to tell each other; on an application's app its settings hold."""
    if not isinstance(app, OwnCelery):
        return {}
    # Celery warns root of pickled messages; our app accepts none
    warnings.filterwarnings("ignore", category=SecurityWarning)
    return {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


def _say_ready(sender: Any, **_: Any) -> None:
    worker = sender.controller
    pool = worker.pool_cls.__module__.rpartition(".")[2]
    counts = {
        "queues": sorted(worker.app.amqp.queues.consume_from),
        "pool": pool,
        "at_once": 1 if pool == "solo" else worker.concurrency,
        "handlers": len(registry.process.handlers),
        "templates": len(registry.process.templates),
    }
    _log.info("worker is ready", extra=counts)
    if not registry.process.handlers:
        _log.warning("no handler is registered, so this worker runs no step")
