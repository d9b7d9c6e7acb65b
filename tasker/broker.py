"""The pipe: Celery's side of publishing. A message carries step ids and a publication time, nothing else."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - Redis' client imports it late, too late at exit
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from celery import Celery as Celery  # noqa: PLC0414 - the type of what `Tasker` is given

from tasker.domain.errors import SettingsError, TaskerError
from tasker.domain.forks import forget_after_fork
from tasker.faults import point

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from kombu.connection import Connection
    from kombu.messaging import Producer

    from tasker.domain.replies import Group, Moved
    from tasker.settings import Settings

TASK_NAME = "tasker.run_steps"
PUBLISHED_AT = "tasker_published_at"
"""Message header: the database's time of publication. Workers note it per queue to find lost messages."""

BURST_SECONDS = 0.008
"""In a burst, what is published within this time shares messages."""
BURST_CALLS = 4
"""So many calls within that time begin a burst, and that time without one ends it.

Who waits for one task before the next submit makes none.
"""
PAUSE_SECONDS = 2.0
"""Rest after a broker failure: what is published meanwhile is dropped and republished by the coordinator."""
LATE_STEPS = 1_000
"""Steps that are given a new time of publication at once, so that they are sent soon after it."""
UNKNOWN_STEPS = 64
"""Steps of a handler that nobody has measured which are sent before it is asked again what it takes."""
EXIT_SECONDS = 5.0
SOCKET_OPTIONS = {
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "max_retries": 1,
}
AMQP_OPTIONS = {"confirm_publish": True, "read_timeout": 10, "write_timeout": 10}
"""RabbitMQ tells nobody what it dropped, unless it is asked to confirm; other transports ignore these."""

_log = logging.getLogger(__name__)


class OwnCelery(Celery):  # type: ignore[misc]  # celery is published without types
    """The app of processes that were given none: it carries steps and nothing else."""


def celery_app(settings: Settings) -> Celery:
    """A Celery app of our own, for processes that were given none. Raises SettingsError without a broker."""
    app = OwnCelery("tasker", broker=settings.require_broker_url(), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={**SOCKET_OPTIONS, "health_check_interval": 15},
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


def connected(app: Celery, settings: Settings) -> Celery:
    """The app with a broker: its own, else the one of the settings. Raises SettingsError when they differ."""
    named = settings.require_broker_url() if settings.broker_url else None
    own = app.conf.broker_url
    if own is None:
        if named is not None:
            app.conf.broker_url = named
        return app
    if named not in {None, own, os.environ.get("CELERY_BROKER_URL")}:
        raise SettingsError(
            "the Celery app has another broker than TASKER_BROKER_URL names (`tasker dev` names its own "
            "Redis), and workers of one do not see the messages of the other; give the app no broker, or set "
            "TASKER_BROKER_URL to the app's"
        )
    return app


def attach(app: Celery, settings: Settings) -> None:
    """Make workers of `app` run steps; attaching twice changes nothing.

    Adds our own bootsteps, with the option `--no-coordinator` of `celery worker`, and sets nothing else.
    Celery imports the steps in worker processes only; our task is registered there.
    """
    import click

    app.tasker_settings = settings
    app.steps["worker"].add("tasker.worker.process:StepsOfTasker")
    app.steps["consumer"].add("tasker.worker.consumer:SturdyConsumer")
    options = app.user_options["worker"]
    if not any(option.name == "no_coordinator" for option in options):
        meaning = "Leave Tasker's retries and recovery to other processes."
        options.add(click.Option(["--no-coordinator"], is_flag=True, help=meaning))


def _at_exit(flush: Callable[[float], object]) -> None:
    atexit.register(flush, EXIT_SECONDS)
    # what multiprocessing has forked ends without Python's own list, and by one of its own
    forks = sys.modules.get("multiprocessing.util")
    if forks is not None:
        forks.Finalize(None, flush, (EXIT_SECONDS,), exitpriority=0)


class Message(NamedTuple):
    """Steps that travel together."""

    queue: str
    ids: list[int]


def cut(groups: Iterable[Group], budget_ms: float, max_steps: int) -> Iterator[Message]:
    """Cut steps into messages of at most `budget_ms` expected work and `max_steps` steps, by queue.

    A step with a limit of its own (`max_batch`) is in no message of more steps than that. One whose time is
    unknown or beyond the budget travels alone, so that batching never costs parallelism.
    """
    filling: dict[str, tuple[list[int], float, int]] = {}
    for queue, expected_ms, limit, ids in groups:
        own = min(limit or max_steps, max_steps)
        if own == 1 or expected_ms is None or expected_ms > budget_ms:
            yield from (Message(queue, [step]) for step in ids)
            continue
        batch, work, most = filling.get(queue, ([], 0.0, own))
        for step in ids:
            most = min(most, own)
            if batch and (len(batch) >= most or work + expected_ms > budget_ms):
                yield Message(queue, batch)
                batch, work, most = [], 0.0, own
            batch.append(step)
            work += expected_ms
        filling[queue] = batch, work, most
    yield from (Message(queue, batch) for queue, (batch, *_) in filling.items() if batch)


def _is_unmeasured(group: Group) -> bool:
    """Whether its steps travel alone only because nobody knows yet how long they take."""
    _, expected_ms, limit, _ = group
    return expected_ms is None and limit != 1


class Publication(NamedTuple):
    """Steps that a call which `began` then has enqueued, and how they get another time if that is past."""

    groups: Sequence[Group]
    at: str
    began: float
    freshen: Callable[[list[int], str], Moved]

    def steps(self, among: Container[int]) -> list[int]:
        """Its steps that are among these, in order."""
        return [step for group in self.groups for step in group[3] if step in among]


class Publisher:
    """One thread per process that sends messages after the commit, and never makes a caller wait.

    What it cannot send is not lost: the steps stay `enqueued` in the database, and the coordinator has them
    published again.
    """

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._budget_ms = settings.batch_budget_ms
        self._max_steps = settings.batch_max_steps
        self._late_seconds = settings.lost_message_seconds / 2
        self._pending: deque[Publication]
        self._calls: deque[float]
        self._changed: threading.Condition
        self._thread: threading.Thread | None
        self._connection: Connection | None
        self._producer: Producer | None
        self._failing: bool
        self._asked: bool
        self.after_fork()
        forget_after_fork(self)

    def publish(
        self, groups: Sequence[Group], at: str, began: float, freshen: Callable[[list[int], str], Moved]
    ) -> None:
        """Send these steps soon; returns at once. `at` is the database's time of their publication.

        The call that returned them `began` then (monotonic seconds). What cannot be sent soon after that is
        given another time by `freshen`, which says what is still to be sent.
        """
        if not groups:
            return
        with self._changed:
            self._pending.append(Publication(groups, at, began, freshen))
            self._note_call(time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasker-publisher", daemon=True)
                self._thread.start()
                _at_exit(self.flush)
            self._changed.notify_all()

    def can_send(self) -> bool:
        """Whether the broker took what was sent last; if not, it is asked anew, in the publisher's thread."""
        with self._changed:
            if self._failing:
                self._asked = True
                self._changed.notify_all()
            return not self._failing

    def flush(self, timeout: float) -> bool:
        """Wait until everything is sent or given up; False when that took more than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._sending, timeout)

    def after_fork(self) -> None:
        """In a child: the thread, the socket and what is still to be sent are the parent's."""
        self._pending = deque()
        self._calls = deque(maxlen=BURST_CALLS)
        self._changed = threading.Condition()
        self._sending = self._failing = self._asked = self._in_burst = False
        self._thread = self._connection = self._producer = None
        self._declared: set[str] = set()

    def _run(self) -> None:
        sent_at = paused_until = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending) or self._asked)
                in_burst = self._in_burst
            quiet = time.monotonic() - sent_at
            if in_burst and quiet < BURST_SECONDS:
                time.sleep(BURST_SECONDS - quiet)
            with self._changed:
                taken = list(self._pending)
                self._pending.clear()
                self._sending, self._asked = True, False
            if time.monotonic() >= paused_until:
                sent = self._send(taken) if taken else self._answers()
                self._failing = not sent
                paused_until = 0.0 if sent else time.monotonic() + PAUSE_SECONDS
            sent_at = time.monotonic()
            with self._changed:
                self._sending = False
                self._changed.notify_all()

    def _note_call(self, now: float) -> None:
        calls = self._calls
        if calls and now - calls[-1] >= BURST_SECONDS:
            self._in_burst = False
        calls.append(now)
        if len(calls) == BURST_CALLS and now - calls[0] < BURST_SECONDS:
            self._in_burst = True

    def _answers(self) -> bool:
        try:
            self._open().connection.ensure_connection(max_retries=1)
        except Exception as error:  # noqa: BLE001 - each transport has errors of its own
            self._close()
            _log.debug("broker still does not answer: %s", error)
            return False
        return True

    def _send(self, taken: Sequence[Publication]) -> bool:
        point("before", "publish")
        for message, at in self._messages(taken):
            if not self._deliver(message, at):
                return False
            point("after", "message")
        point("after", "publish")
        return True

    def _messages(self, taken: Sequence[Publication]) -> Iterator[tuple[Message, str]]:
        """What to send, each message with its time of publication.

        A message must not be sent long after its time: then it would stand in the queue behind later ones,
        and whoever receives those takes it for lost.
        """
        newest = max(publication.at for publication in taken)
        late_at = min(publication.began for publication in taken) + self._late_seconds
        groups = [group for publication in taken for group in publication.groups]
        # as many messages as there are steps, were they sent before the first of them has shown what it takes
        waiting = {step for group in groups if _is_unmeasured(group) for step in group[3][UNKNOWN_STEPS:]}
        messages = deque(message for message in self._cut(groups) if waiting.isdisjoint(message.ids))
        while messages and time.monotonic() < late_at:
            yield messages.popleft(), newest
        left = waiting.union(*(message.ids for message in messages))
        some = UNKNOWN_STEPS if waiting else LATE_STEPS
        for publication in taken if left else ():
            yield from self._late_messages(publication, publication.steps(left), some)

    def _late_messages(
        self, publication: Publication, steps: list[int], some: int
    ) -> Iterator[tuple[Message, str]]:
        start = 0
        while start < len(steps):
            try:
                reply = publication.freshen(steps[start : start + some], publication.at)
            except TaskerError as error:
                _log.warning("%s; %d steps are left to the coordinator", error, len(steps) - start)
                return
            start += some
            some = UNKNOWN_STEPS if any(map(_is_unmeasured, reply.publish)) else LATE_STEPS
            for message in self._cut(reply.publish):
                yield message, reply.at

    def _cut(self, groups: Iterable[Group]) -> Iterator[Message]:
        return cut(groups, self._budget_ms, self._max_steps)

    def _deliver(self, message: Message, at: str) -> bool:
        """Send a message; False when the broker does not answer."""
        while True:
            # one that has been idle may be dead without our knowing; twice sent is claimed once all the same
            was_open = self._producer is not None
            try:
                self._send_one(self._open(), message, at)
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own
                self._close()
                if was_open:
                    continue
                _log.warning(
                    "broker does not answer (%s); publishing rests %s s, the steps stay enqueued",
                    error,
                    PAUSE_SECONDS,
                )
                return False
            return True

    def _send_one(self, producer: Producer, message: Message, at: str) -> None:
        if message.queue not in self._declared:
            self._declare(producer, message.queue)
        task_id = str(uuid4())
        built = self._app.amqp.as_task_v2(
            task_id,
            TASK_NAME,
            args=(message.ids,),
            kwargs={"queue": message.queue},
            ignore_result=True,
            argsrepr=f"({len(message.ids)} steps)",
            kwargsrepr="{}",
        )
        producer.publish(  # type: ignore[no-untyped-call]
            built.body,
            exchange="",
            routing_key=message.queue,
            serializer="json",
            headers={**built.headers, PUBLISHED_AT: at},
            delivery_mode=2,
            retry=False,
            **built.properties,
        )

    def _declare(self, producer: Producer, queue: str) -> None:
        """RabbitMQ drops messages for a queue that no worker has declared yet.

        One that exists is taken as it is: its workers may have given it arguments that this app lacks.
        """
        connection = producer.connection
        if connection.transport.driver_type == "amqp":
            with connection.channel() as looking:
                try:
                    looking.queue_declare(queue, passive=True)
                except connection.channel_errors:
                    self._app.amqp.queues[queue](producer.channel).declare()
        self._declared.add(queue)

    def _open(self) -> Any:
        if self._producer is None:
            self._declared.clear()
            options = {**SOCKET_OPTIONS, **AMQP_OPTIONS}
            self._connection = self._app.connection_for_write(transport_options=options)
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()  # type: ignore[no-untyped-call]
            except Exception:  # noqa: BLE001 - whatever a broken connection raises while it closes
                _log.debug("closing the broken broker connection failed", exc_info=True)
