"""A backlog of 100 000 steps before one slow worker: its messages are counted, as are those after a flush."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tasker import Task
from tasker.dev.redis import start_redis
from tests.acceptance.system import APPS, System, eventually
from tests.conftest import redis_client_of

TASKS, STEPS = 100, 1_000
SECONDS = 900.0
SENT_AGAIN = re.compile(r"(\d+) steps are published again")


def messages_sent(system: System) -> int:
    """How many messages Redis was given since it started."""
    with redis_client_of(system.broker_url) as client:
        return int(client.info("commandstats")["cmdstat_lpush"]["calls"])


def all_complete(system: System, tasks: list[Task]) -> bool:
    query = "select count(*) from tasker.tasks where id = any(%s) and state = 'complete'"
    return bool(system.one(query, [task.id for task in tasks]) == len(tasks))


@pytest.mark.slow
@pytest.mark.parametrize("flushed", [False, True], ids=["kept", "flushed"])
def test_a_long_backlog_is_not_doubled_and_after_a_flush_moves_again(
    database_url: str, tmp_path: Path, record_property: Callable[[str, object], None], *, flushed: bool
) -> None:
    with (
        start_redis(tmp_path / "redis", durable=False) as broker_url,
        System(database_url, broker_url, tmp_path) as system,
        system.worker(f"{APPS}.backlog", "--concurrency", "1") as worker,
    ):
        system.ready(worker)
        assert system.settled(system.submit("backlog/one")) == "complete"
        known = "select count(*) from tasker.handlers where expected_ms > 0"
        eventually(
            lambda: system.one(known) == 1, "it is known how long a step takes, so they share messages"
        )
        before = messages_sent(system)

        tasks = [system.submit("backlog/many") for _ in range(TASKS)]
        assert system.tasker.engine.publisher.flush(60)
        if flushed:
            system.empty_broker()
        eventually(lambda: all_complete(system, tasks), "the backlog is done", SECONDS)

        sent = messages_sent(system) - before
        again = sum(map(int, SENT_AGAIN.findall(worker.log.read_text())))
        # after the flush each step that was lost, and none of them twice
        assert 0 < again <= TASKS * STEPS if flushed else again == 0
        ended = {outcome for (outcome,) in system.rows("select distinct outcome from tasker.step_attempts")}
        assert ended <= {"complete", "released"}
        assert system.violations() == []
        # each message carries several steps; what is given back after half a second is sent once more
        assert sent < TASKS * STEPS / 2
        record_property("messages", sent)
