"""A Celery worker that runs steps: our task, the life of its main process, and of its children."""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from celery import bootsteps, signals
from celery.worker import state

from tasker.broker import PUBLISHED_AT, TASK_NAME, Publisher
from tasker.db import functions
from tasker.db.engine import Database
from tasker.db.migrate import require_current
from tasker.domain.errors import SettingsError, TaskerError
from tasker.orchestration.coordinator import Coordinator
from tasker.orchestration.engine import Engine
from tasker.orchestration.recovery import take_back
from tasker.orchestration.templates import store_templates
from tasker.worker import registry
from tasker.worker.children import Children, die_with_parent
from tasker.worker.heartbeat import beat
from tasker.worker.identity import Identity
from tasker.worker.leaving import Leaving
from tasker.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from tasker.settings import Settings

LARGEST_ID = (1 << 63) - 1
"""Of a bigint."""

POOLS = ("prefork", "threads", "solo")
CONNECTIONS = 4
"""Of each process that runs handlers: one for each handler thread in turn, the watchdog and the loops."""
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

    def close(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """The worker stops, by a signal or otherwise; called before anything of it is stopped."""
        self._process.leaving.begin()

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
    _running.runner.run(checked(ids), queue)


def checked(ids: object) -> list[int]:
    """Step ids as Tasker sends them. Raises ValueError: what else a message holds is for nobody to run.

    Asked of PostgreSQL, some of it would look like a schema that is behind, and be asked for ever.
    """
    if isinstance(ids, list) and all(type(step) is int and 0 < step <= LARGEST_ID for step in ids):
        return ids
    raise ValueError(f"a message that is none of Tasker's names the steps {ids!r:.100}; it is dropped")


class WorkerProcess:
    """What a worker's main process holds, and its children inherit."""

    def __init__(self, worker: Any) -> None:
        settings: Settings = worker.app.tasker_settings
        pool = worker.pool_cls.__module__.rpartition(".")[2].replace("thread", "threads")
        if pool not in POOLS:
            raise SettingsError(f"pool {pool} is not supported; use --pool with one of {', '.join(POOLS)}")
        url = settings.require_database_url()
        registry.process.obey(settings)
        registry.process.check()
        self._worker = worker
        self._settings = settings
        self._pool = pool
        self._database = Database(
            url,
            connections=CONNECTIONS + (worker.concurrency if pool == "threads" else 0),
            statement_timeout_seconds=settings.statement_timeout_seconds,
        )
        self._beats = Database(
            url, connections=1, name="tasker heartbeat", statement_timeout_seconds=BEAT_TIMEOUT_SECONDS
        )
        self._engine = Engine(self._database, Publisher(worker.app, settings), settings)
        self._stopped = threading.Event()
        self._received: dict[str, str] = {}
        self.queues = list(worker.app.amqp.queues.consume_from)
        handlers = sorted(registry.process.handlers)
        # Celery's solo pool runs one message at a time whatever its concurrency
        slots = 1 if pool == "solo" else worker.concurrency
        self.identity = Identity(self._database, "main", self.queues, handlers, slots=slots)
        self.leaving = Leaving()
        self.runner = Runner(self._engine, self.identity, self.leaving, may_die=False)

    def start(self, *, coordinates: bool) -> None:
        """Store templates, register, start the threads. Raises SchemaBehind."""
        require_current(self._database.url)
        store_templates(self._database, registry.process.templates, self._worker.app.conf.task_default_queue)
        self.identity.worker()
        self.leaving.listen(runs_handlers=self._pool == "solo")
        signals.task_received.connect(self._note_received, weak=False)
        signals.worker_shutdown.connect(self._end, weak=False)
        atexit.register(self._end)
        every = self._settings.heartbeat_seconds
        _start_thread(beat, self._beats, self.identity, every, self._news, self._stopped)
        if coordinates:
            _start_thread(Coordinator(self._engine, self.identity.worker).run, self._stopped)
        if self._pool == "prefork":
            children = Children(
                self._worker.pool,
                self._replace_children,
                self._engine,
                self._beats,
                self.identity,
                leaving=self.leaving,
            )
            _start_thread(children.run, self._settings.child_poll_seconds, self._stopped)

    def in_new_child(self) -> None:
        """In a prefork child: die with the main process, and take over none of its locks."""
        die_with_parent(self.identity.main_pid)
        self.runner = Runner(self._engine, self.identity, self.leaving, may_die=True)

    def _replace_children(self) -> None:
        """Have Celery's loop do now what it does every 5 s."""
        if self._worker.hub is not None:
            self._worker.hub.call_soon(self._worker.pool.maintain_pool)

    def _note_received(self, request: Any, **_: Any) -> None:
        at = request.request_dict.get(PUBLISHED_AT)
        if at:
            queue = request.delivery_info.get("routing_key")
            self._received[queue] = max(at, self._received.get(queue, at))

    def _news(self) -> tuple[int, dict[str, str]]:
        received, self._received = self._received, {}
        # one that leaves, or has lost the broker, takes no messages; were it free, others' would seem lost
        places = 0 if self.leaving or not self._hears() else self._worker.concurrency
        return max(0, places - len(state.reserved_requests)), received

    def _hears(self) -> bool:
        """Whether this worker is connected to the broker."""
        connection = getattr(self._worker.consumer, "connection", None)
        return connection is not None and bool(connection.connected)

    def _end(self, **_: Any) -> None:
        """At the end of the main process: whatever is still claimed is for others, and they get it now."""
        if self._stopped.is_set() or not self.identity.is_main:
            return
        self.leaving.begin()
        self._stopped.set()
        try:
            self._beats.call(functions.stop_workers, [self.identity.worker()], None, "shutdown")
            take_back(self._engine)
        except TaskerError as error:
            _log.warning("leaving without notice: %s", error)
        self._engine.publisher.flush(timeout=2.0)


def _start_thread(run: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=run, args=arguments, name="tasker", daemon=True).start()


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
