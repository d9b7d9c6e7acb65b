"""What keeps the consumer on Redis taking messages: on a channel of kombu, through a wire that is cut."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import kombu
import pytest
import redis

from tasker.worker.consumer import SturdyConsumer
from tests.faults.proxy import Proxy, redis_proxy

QUEUE = "sturdy"


class Consuming:
    """A channel as the worker's consumer opens it, with room for one message."""

    def __init__(self, connection: kombu.Connection) -> None:
        self.got: list[kombu.Message] = []
        self.connection = connection
        self.channel = connection.channel()
        self.channel.basic_qos(prefetch_count=1)
        parent = SimpleNamespace(task_consumer=SimpleNamespace(channel=self.channel))
        SturdyConsumer(parent).start(parent)
        queue = kombu.Queue(QUEUE, channel=self.channel)
        kombu.Consumer(self.channel, [queue], on_message=self.got.append, accept=["json"]).consume()

    def send(self, body: dict[str, str]) -> None:
        with self.connection.clone() as other, other.SimpleQueue(QUEUE) as queue:
            queue.put(body)

    def receive(self) -> kombu.Message:
        for _ in range(20):
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=0.5)
            if self.got:
                return self.got.pop()
        pytest.fail("no message came")


@pytest.fixture
def wired(redis_url: str) -> Iterator[tuple[Consuming, Proxy]]:
    with (
        tempfile.TemporaryDirectory(prefix="tasker-wire-") as folder,
        redis_proxy(redis_url, Path(folder)) as (url, proxy),
        kombu.Connection(url, transport_options={"max_retries": 0}) as connection,
    ):
        yield Consuming(connection), proxy


def test_a_message_whose_acknowledgement_failed_makes_room_for_the_next(
    wired: tuple[Consuming, Proxy],
) -> None:
    consuming, proxy = wired
    consuming.send({"is": "first"})
    message = consuming.receive()
    assert not consuming.channel.qos.can_consume(), "there is room for one"
    with proxy.away(), pytest.raises(consuming.connection.connection_errors):
        message.ack()
    assert consuming.channel.qos.can_consume()


def test_bytes_that_are_no_message_are_dropped(
    wired: tuple[Consuming, Proxy], redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    consuming, _ = wired
    redis_client.lpush(QUEUE, b"\x00\xff no message", b"[1, 2]")
    consuming.send({"is": "after the garbage"})
    assert consuming.receive().payload == {"is": "after the garbage"}
    assert caplog.text.count("none of Celery's") == 2
