"""Messages on the real broker: what they carry, that bursts share them, and a broker that is away."""

from __future__ import annotations

import base64
import json
from typing import Any

import redis

from tasker import broker
from tasker.domain.replies import Group
from tasker.settings import Settings

AT = "2030-01-01T00:00:00+00:00"


def publisher_for(url: str) -> broker.Publisher:
    settings = Settings(broker_url=url)
    return broker.Publisher(broker.celery_app(settings), settings)


def quick(*ids: int) -> Group:
    return ("shop", 1.0, False, list(ids))


def sent(client: redis.Redis) -> list[dict[str, Any]]:
    raw: list[bytes] = client.lrange("shop", 0, -1)  # type: ignore[assignment]
    return [json.loads(message) for message in reversed(raw)]


def steps(message: dict[str, Any]) -> list[int]:
    args, _kwargs, _embed = json.loads(base64.b64decode(message["body"]))
    return list(args[0])


def test_a_message_carries_ids_and_the_time_of_publication(redis_url: str, redis_client: redis.Redis) -> None:
    publisher = publisher_for(redis_url)
    publisher.publish([quick(1, 2)], AT)
    assert publisher.flush(10)
    (message,) = sent(redis_client)
    assert steps(message) == [1, 2]
    assert message["headers"]["task"] == broker.TASK_NAME
    assert message["headers"][broker.PUBLISHED_AT] == AT
    assert message["content-type"] == "application/json"


def test_what_is_published_in_a_burst_shares_messages_and_loses_nothing(
    redis_url: str, redis_client: redis.Redis
) -> None:
    publisher = publisher_for(redis_url)
    for step in range(200):
        publisher.publish([quick(step)], AT)
    assert publisher.flush(10)
    messages = sent(redis_client)
    assert sorted(step for message in messages for step in steps(message)) == list(range(200))
    assert len(messages) < 100


def test_nobody_waits_for_a_broker_that_is_away_and_publishing_rests(
    redis_url: str, redis_client: redis.Redis
) -> None:
    away = publisher_for("redis://127.0.0.1:1/0")
    away.publish([quick(1)], AT)
    assert away.flush(20)
    away.publish([quick(2)], AT)
    assert away.flush(1), "publishing rests after a failure instead of trying each message"
    assert sent(redis_client) == []
