"""What Celery's consumer needs on Redis, so that a worker that looks alive takes messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from celery import bootsteps
from kombu.transport import virtual

if TYPE_CHECKING:
    from collections.abc import Callable

POP = "BRPOP"
NO_MESSAGE = (AttributeError, LookupError, TypeError, ValueError)

_log = logging.getLogger(__name__)


class SturdyConsumer(bootsteps.StartStopStep):  # type: ignore[misc]
    """Two guards on each channel that the consumer opens.

    An acknowledgement that fails: kombu tells Redis before it counts the message off the worker's hands, so
    each connection that breaks in between leaves one counted for ever. After as many as the worker may have
    in hand it would look alive, and never take another message.

    Bytes in the queue that are no message: kombu's error would end the worker. They are logged and dropped.
    """

    requires: ClassVar = {"celery.worker.consumer.tasks:Tasks"}

    def start(self, parent: Any) -> None:
        """Called for each connection that the consumer makes."""
        channel = parent.task_consumer.channel
        qos: Any = getattr(channel, "qos", None)  # RabbitMQ keeps count itself
        if isinstance(qos, virtual.QoS):
            for done in ("ack", "reject"):
                setattr(qos, done, _counting_off(qos, getattr(qos, done)))
        handlers = getattr(channel, "handlers", {})
        if POP in handlers:
            handlers[POP] = _dropping_garbage(handlers[POP], channel.connection_errors)


def _counting_off(qos: Any, done: Callable[..., None]) -> Callable[..., None]:
    def counted_off(delivery_tag: str, *arguments: Any, **keywords: Any) -> None:
        try:
            done(delivery_tag, *arguments, **keywords)
        except Exception:
            virtual.QoS.ack(qos, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    return counted_off


def _dropping_garbage(read: Callable[[], Any], lost: tuple[type[Exception], ...]) -> Callable[[], Any]:
    def read_message() -> Any:
        try:
            return read()
        except lost:  # KeyError among them: Celery connects anew
            raise
        except NO_MESSAGE:
            _log.exception("a message in the broker is none of Celery's, and is dropped")
            return None

    return read_message
