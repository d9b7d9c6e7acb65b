"""A Celery worker that runs steps: our task, the life of its main process, and of its children."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from celery import bootsteps, signals
from celery.worker import state

from tasker.broker import PUBLISHED_AT, TASK_NAME, Publisher
from tasker.db import functions
from tasker.db.engine import Database
from tasker.db.migrate import require_current
from tasker.domain.errors import SettingsError, TaskerError, Unreachable
from tasker.orchestration.coordinator import Coordinator
from tasker.orchestration.engine import Engine
from tasker.orchestration.recovery import take_back
from tasker.orchestration.templates import store_templates
from tasker.worker import registry
from tasker.worker.identity import Identity
from tasker.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from tasker.settings import Settings

POOLS = ("prefork", "threads", "solo")
CONNECTIONS = 4
"""Of each process that runs handlers: one for each handler thread in turn, the watchdog and the loops."""
PR_SET_PDEATHSIG = 1
BEAT_TIMEOUT_SECONDS = 4

_log = logging.getLogger(__name__)
_running: WorkerProcess | None = None


class StepsOfTasker(bootsteps.StartStopStep):  # type: ignore[misc]
    """Celery's hook: starts with the worker, before it takes messages and after the pool has forked."""

    requires: ClassVar = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, *, no_coordinator: bool = False, **options: Any) -> None:
        global _running  # noqa: PLW0603 - Celery gives the task no other way to its worker
        super().__init__(parent, **options)
        self._coordinates = not no_coordinator
        register_task(parent.app)
        with _exit_on_error():
            # before the pool forks, so that children inherit it
            _running = self._process = WorkerProcess(parent)
        signals.worker_process_init.connect(_in_new_child, weak=False)

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Register this worker, store its templates, start its threads. Exits with a message if it cannot."""
        with _exit_on_error():
            self._process.start(coordinates=self._coordinates)

    def stop(self, parent: Any) -> None:
        """Nothing yet: handlers still run in the pool, and the worker must look alive until they end."""


def register_task(app: Celery) -> None:
    """Register the one task of Tasker on an app; again changes nothing."""
    limits = app.conf.task_time_limit or app.conf.task_soft_time_limit
    # limits that the app sets for its own tasks must not cut steps, which have their own
    years = {"time_limit": 10**8, "soft_time_limit": 10**8} if limits else {}
    app.task(
        run_steps,
        name=TASK_NAME,
        acks_late=False,
        ignore_result=True,
        max_retries=0,
        serializer="json",
        **years,
    )


def run_steps(ids: list[int], queue: str) -> None:
    """The Celery task: run the steps of one message."""
    if _running is None:
        raise SettingsError("tasker.run_steps was called outside a Celery worker; submit tasks instead")
    _running.runner.run(ids, queue)


class WorkerProcess:
    """What a worker's main process holds, and its children inherit."""

    def __init__(self, worker: Any) -> None:
        settings: Settings = worker.app.tasker_settings
        pool = worker.pool_cls.__module__.rpartition(".")[2].replace("thread", "threads")
        if pool not in POOLS:
            raise SettingsError(f"pool {pool} is not supported; use --pool with one of {', '.join(POOLS)}")
        url = settings.require_database_url()
        registry.process.check()
        self._worker = worker
        self._settings = settings
        self._forks = pool == "prefork"
        self._database = Database(
            url, connections=CONNECTIONS + (worker.concurrency if pool == "threads" else 0)
        )
        self._beats = Database(
            url, connections=1, name="tasker heartbeat", statement_timeout_seconds=BEAT_TIMEOUT_SECONDS
        )
        self._engine = Engine(self._database, Publisher(worker.app, settings), settings)
        self._stopped = threading.Event()
        self._received: dict[str, str] = {}
        self.queues = list(worker.app.amqp.queues.consume_from)
        self.identity = Identity(self._database, "main", self.queues, sorted(registry.process.handlers))
        self.runner = Runner(self._engine, self.identity)

    def start(self, *, coordinates: bool) -> None:
        """Store templates, register, start the threads. Raises SchemaBehind."""
        require_current(self._database.url)
        store_templates(self._database, registry.process.templates, self._worker.app.conf.task_default_queue)
        self.identity.worker()
        signals.task_received.connect(self._note_received, weak=False)
        signals.worker_shutdown.connect(self._end, weak=False)
        atexit.register(self._end)
        threads = [self._beat]
        if coordinates:
            coordinator = Coordinator(self._engine, self.identity.worker)
            threads.append(lambda: coordinator.run(self._stopped))
        if self._forks:
            threads.append(self._watch_children)
        for run in threads:
            threading.Thread(target=run, name="tasker", daemon=True).start()

    def in_new_child(self) -> None:
        """In a prefork child: die with the main process, and take over none of its locks."""
        _die_with_parent(self.identity.main_pid)
        self.runner = Runner(self._engine, self.identity)

    def _note_received(self, request: Any, **_: Any) -> None:
        at = request.request_dict.get(PUBLISHED_AT)
        if at:
            queue = request.delivery_info.get("routing_key")
            self._received[queue] = max(at, self._received.get(queue, at))

    def _beat(self) -> None:
        while not self._stopped.wait(self._settings.heartbeat_seconds):
            received, self._received = self._received, {}
            free = max(0, self._worker.concurrency - len(state.reserved_requests))
            try:
                worker = self.identity.worker()
                if not self._beats.call(functions.beat_worker, worker, free, received):
                    _log.warning("this worker was taken for dead; it registers anew")
                    self.identity.renew(worker)
                    self.identity.worker()
            except Unreachable as error:
                _log.warning("heartbeat: %s", error)
            except Exception:  # noqa: BLE001 - a worker without heartbeat is taken for dead
                _log.exception("heartbeat failed")

    def _watch_children(self) -> None:
        """Take steps back from children as soon as their processes vanish."""
        known: set[int] = set()
        pool = self._worker.pool._pool  # noqa: SLF001 - Celery offers no other list of its children
        while not self._stopped.wait(self._settings.child_poll_seconds):
            live = {process.pid for process in pool._pool if _exists(process.pid)}  # noqa: SLF001
            if known - live:
                try:
                    self._beats.call(functions.stop_children, self.identity.worker(), sorted(known - live))
                    take_back(self._engine)
                except Exception:  # noqa: BLE001 - the next look tries again
                    _log.exception("taking back the steps of children %s failed", known - live)
                    continue
            known = live

    def _end(self, **_: Any) -> None:
        """At the end of the main process: whatever is still claimed is for others."""
        if self._stopped.is_set() or not self.identity.is_main:
            return
        self._stopped.set()
        self._engine.publisher.flush(timeout=2.0)
        try:
            self._beats.call(functions.stop_workers, [self.identity.worker()], None, "shutdown")
        except TaskerError as error:
            _log.warning("leaving without notice: %s", error)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    try:
        yield
    except TaskerError as error:
        _log.critical("tasker: %s", error)
        raise SystemExit(1) from None


def _in_new_child(**_: Any) -> None:
    # the solo pool sends this signal too, from the main process
    if _running is not None and not _running.identity.is_main:
        _running.in_new_child()


def _die_with_parent(parent: int) -> None:
    if sys.platform != "linux":
        return  # there is no such signal: a child outlives its main until its handler ends, and is fenced
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request
        os.kill(os.getpid(), signal.SIGKILL)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
