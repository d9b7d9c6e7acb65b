"""Bursts of single submits share messages, a lone one waits for nobody, and what ends loses nothing."""

from __future__ import annotations

import base64
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from tasker import Tasker, broker
from tasker.db import functions
from tasker.db.engine import Database
from tasker.domain.templates import TemplateDefinition
from tasker.orchestration.templates import store
from tasker.settings import Settings
from tests.integration.engine import HANDLER, QUEUE, steps
from tests.integration.test_publisher import publish, publisher_for, quick

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = TemplateDefinition("tests", "burst", "1.0.0", steps("only"))
SUBMITS = 200


def sent(client: redis.Redis) -> list[list[int]]:
    """The steps of each message."""
    raw: list[bytes] = client.lrange(QUEUE, 0, -1)  # type: ignore[assignment]
    return [json.loads(base64.b64decode(json.loads(message)["body"]))[0][0] for message in raw]


def all_of(messages: list[list[int]]) -> list[int]:
    """Every step that was sent, sorted."""
    return sorted(step for message in messages for step in message)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each pause of a publisher was."""
    taken: list[float] = []

    def sleep(seconds: float) -> None:
        taken.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(broker, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    return taken


@pytest.fixture
def known(database_url: str) -> None:
    """A template of one step, whose handler is known to be quick."""
    database = Database(database_url)
    store(database, TEMPLATE, QUEUE)
    database.call(functions.record_expectations, {HANDLER: 0.1})
    database.close()


def submit_some(database_url: str, redis_url: str) -> None:
    """Submit, and return while messages are still to be sent."""
    tasker = Tasker(Settings(database_url=database_url, broker_url=redis_url))
    for _ in range(SUBMITS):
        tasker.submit("tests/burst")


def enqueued(database_url: str) -> list[int]:
    """The steps for which a message must be out, sorted."""
    database = Database(database_url)
    query = "select id from tasker.steps where state = 'enqueued' order by id"
    found = database.call(lambda own: own.execute(query).fetchall())
    database.close()
    return [step for (step,) in found]


def test_a_lone_submit_is_sent_without_a_pause(
    redis_url: str, redis_client: redis.Redis, pauses: list[float]
) -> None:
    publisher = publisher_for(redis_url)
    for step in range(1, broker.BURST_CALLS):
        publish(publisher, quick(step))
        assert publisher.flush(10)
    assert pauses == []
    assert len(sent(redis_client)) == broker.BURST_CALLS - 1


def test_a_burst_is_sent_in_pauses_that_end(
    redis_url: str, redis_client: redis.Redis, pauses: list[float]
) -> None:
    publisher = publisher_for(redis_url)
    publish(publisher, quick(0))
    assert publisher.flush(10)
    for step in range(1, 50):
        publish(publisher, quick(step))
    assert publisher.flush(10)
    assert 0 < len(pauses) < 10
    assert max(pauses) <= broker.BURST_SECONDS
    assert all_of(sent(redis_client)) == list(range(50))


def test_a_burst_goes_on_while_calls_follow_each_other_and_ends_with_a_moment_of_quiet(
    redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    pauses: list[float] = []

    monkeypatch.setattr(broker, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=pauses.append))
    publisher = publisher_for(redis_url)

    def pauses_after(quiet_seconds: float) -> bool:
        before = len(pauses)
        now[0] += quiet_seconds
        publish(publisher, quick(len(pauses)))
        assert publisher.flush(10)
        return len(pauses) > before

    assert [pauses_after(0.001) for _ in range(5)] == [False, False, False, True, True]
    assert [pauses_after(0.005) for _ in range(3)] == [True, True, True]
    assert [pauses_after(0.009) for _ in range(3)] == [False, False, False]
    assert [pauses_after(0.005) for _ in range(3)] == [False, False, False]


def test_what_many_threads_publish_shares_messages(redis_url: str, redis_client: redis.Redis) -> None:
    publisher = publisher_for(redis_url)

    def run(first: int) -> None:
        for step in range(first, first + 100):
            publish(publisher, quick(step))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, range(0, 800, 100)))
    assert publisher.flush(10)
    messages = sent(redis_client)
    assert all_of(messages) == list(range(800))
    assert len(messages) < 800 / 8


@pytest.mark.usefixtures("known")
def test_a_process_that_submits_and_ends_at_once_loses_nothing(
    database_url: str,
    redis_url: str,
    redis_client: redis.Redis,
    record_property: Callable[[str, object], None],
) -> None:
    code = f"from {__name__} import submit_some; submit_some({database_url!r}, {redis_url!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    messages = sent(redis_client)
    assert len(all_of(messages)) == SUBMITS
    assert all_of(messages) == enqueued(database_url)
    assert len(messages) < SUBMITS
    record_property("messages", len(messages))


@pytest.mark.usefixtures("known")
def test_children_of_multiprocessing_lose_nothing_either(
    database_url: str, redis_url: str, redis_client: redis.Redis
) -> None:
    forked = multiprocessing.get_context("fork")
    children = [forked.Process(target=submit_some, args=(database_url, redis_url)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    messages = sent(redis_client)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(all_of(messages)) == 2 * SUBMITS
    assert all_of(messages) == enqueued(database_url)
    assert len(messages) < 2 * SUBMITS
