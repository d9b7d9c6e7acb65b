"""Messages on the real broker: what they carry, that bursts share them, and a broker that is away."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import redis

from tasker import broker
from tasker.domain.errors import Unreachable
from tasker.domain.replies import Group, Moved
from tasker.settings import Settings

AT = "2030-01-01T00:00:00+00:00"
LATER = "2030-01-01T00:00:09+00:00"


def publisher_for(url: str) -> broker.Publisher:
    settings = Settings(broker_url=url)
    return broker.Publisher(broker.celery_app(settings), settings)


def publish(publisher: broker.Publisher, group: Group, *, seconds_ago: float = 0, left: int = 10**6) -> None:
    """As after a call that began so long ago; of late steps the first `left` are still to be sent."""

    def freshen(steps: list[int], at: str) -> Moved:
        assert at == AT
        if not left:
            raise Unreachable("PostgreSQL is away")
        return Moved(0, LATER, publish=[quick(*steps[:left])])

    publisher.publish([group], AT, time.monotonic() - seconds_ago, freshen)


def quick(*ids: int) -> Group:
    return ("shop", 1.0, None, list(ids))


def sent(client: redis.Redis) -> list[dict[str, Any]]:
    raw: list[bytes] = client.lrange("shop", 0, -1)  # type: ignore[assignment]
    return [json.loads(message) for message in reversed(raw)]


def steps(message: dict[str, Any]) -> list[int]:
    args, _kwargs, _embed = json.loads(base64.b64decode(message["body"]))
    return list(args[0])


def test_a_message_carries_ids_and_the_time_of_publication(redis_url: str, redis_client: redis.Redis) -> None:
    publisher = publisher_for(redis_url)
    publish(publisher, quick(1, 2))
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
        publish(publisher, quick(step))
    assert publisher.flush(10)
    messages = sent(redis_client)
    assert sorted(step for message in messages for step in steps(message)) == list(range(200))
    assert len(messages) < 100


def test_nobody_waits_for_a_broker_that_is_away_and_publishing_rests(
    redis_url: str, redis_client: redis.Redis
) -> None:
    away = publisher_for("redis://127.0.0.1:1/0")
    publish(away, quick(1))
    assert away.flush(20)
    publish(away, quick(2))
    assert away.flush(1), "publishing rests after a failure instead of trying each message"
    assert sent(redis_client) == []


def test_what_is_sent_late_is_sent_under_a_new_time_unless_somebody_else_has_sent_it(
    redis_url: str, redis_client: redis.Redis
) -> None:
    publisher = publisher_for(redis_url)
    publish(publisher, quick(*range(1500)), seconds_ago=60, left=700)
    assert publisher.flush(10)
    messages = sent(redis_client)
    assert {message["headers"][broker.PUBLISHED_AT] for message in messages} == {LATER}
    # it asks for a thousand at a time
    assert [step for message in messages for step in steps(message)] == [*range(700), *range(1000, 1500)]


def test_what_is_late_while_the_database_is_away_is_left_to_the_coordinator(
    redis_url: str, redis_client: redis.Redis
) -> None:
    publisher = publisher_for(redis_url)
    publish(publisher, quick(1), seconds_ago=60, left=0)
    assert publisher.flush(10)
    publish(publisher, quick(2))
    assert publisher.flush(10)
    assert [steps(message) for message in sent(redis_client)] == [[2]]


def test_of_a_handler_that_nobody_has_measured_some_steps_are_sent_before_it_is_asked_again(
    redis_url: str, redis_client: redis.Redis
) -> None:
    publisher = publisher_for(redis_url)
    asked: list[int] = []

    def freshen(steps: list[int], at: str) -> Moved:
        asked.append(len(steps))
        measured = 1.0 if len(asked) > 2 else None
        return Moved(0, LATER, publish=[("shop", measured, None, steps)])

    unknown: Group = ("shop", None, None, list(range(500)))
    publisher.publish([unknown], AT, time.monotonic(), freshen)
    assert publisher.flush(10)
    messages = [steps(message) for message in sent(redis_client)]
    assert sorted(step for message in messages for step in message) == list(range(500))
    few = broker.UNKNOWN_STEPS
    assert asked == [few, few, few, 500 - 4 * few]
    assert [len(message) for message in messages[: 3 * few]] == [1] * 3 * few
    assert min(len(message) for message in messages[3 * few : -1]) > 1


def test_steps_that_travel_alone_whatever_they_take_are_sent_at_once(
    redis_url: str, redis_client: redis.Redis
) -> None:
    publisher = publisher_for(redis_url)
    publish(publisher, ("shop", None, 1, list(range(100))), left=0)
    assert publisher.flush(10)
    assert len(sent(redis_client)) == 100
