"""RabbitMQ in the place of Redis; `TASKER_TEST_BROKER=rabbitmq` puts the whole suite on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from tasker import TaskTemplate
from tests.acceptance.effects import assert_settled, effects
from tests.acceptance.system import APPS, RECOVERY_THRESHOLDS, System, eventually
from tests.processes import descendants
from tests.rabbitmq import PROGRAM, start_rabbitmq

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="RabbitMQ is not installed (apt install rabbitmq-server)"),
]

LEDGER = f"{APPS}.ledger"


@pytest.fixture
def on_rabbitmq(database_url: str, tmp_path: Path) -> Iterator[System]:
    with (
        start_rabbitmq(tmp_path / "rabbitmq", ["tests"]) as url,
        System(database_url, f"{url}tests", tmp_path, RECOVERY_THRESHOLDS) as system,
    ):
        yield system
        assert system.violations() == []


def waiting(system: System, queue: str = "celery") -> int:
    """How many messages wait in a queue; 0 if there is none of that name."""
    with Connection(system.broker_url) as connection:
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            return 0


def test_work_survives_a_late_worker_a_killed_child_and_an_emptied_queue(on_rabbitmq: System) -> None:
    with on_rabbitmq.worker(LEDGER, "--concurrency", "2") as first:
        on_rabbitmq.ready(first)
        first.stop()
    with Connection(on_rabbitmq.broker_url) as connection:
        connection.default_channel.queue_delete("celery")

    tasks = on_rabbitmq.tasker.submit_many([("ledger/fan", None)] * 20)
    # nobody serves the queue yet, and RabbitMQ would drop messages for one that is not declared
    eventually(lambda: waiting(on_rabbitmq) == 20, "the messages wait")
    with on_rabbitmq.worker(LEDGER, "--concurrency", "2") as worker:
        eventually(lambda: len(effects(on_rabbitmq)) > 8, "steps run")
        os.kill(max(descendants(worker.pid)), signal.SIGKILL)
        on_rabbitmq.empty_broker()
        assert_settled(on_rabbitmq, tasks)


def nothing() -> None:
    """A step that nobody runs."""


def test_a_queue_that_exists_with_arguments_of_its_own_is_used_as_it_is(on_rabbitmq: System) -> None:
    with Connection(on_rabbitmq.broker_url) as connection:
        quorum = {"x-queue-type": "quorum"}
        connection.default_channel.queue_declare("celery", durable=True, auto_delete=False, arguments=quorum)
    one = TaskTemplate("tests/one", version="1.0.0")
    one.add_step(nothing, name="only")
    on_rabbitmq.tasker.submit(one)
    assert on_rabbitmq.tasker.engine.publisher.flush(10)
    assert waiting(on_rabbitmq) == 1
