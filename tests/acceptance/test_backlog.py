"""A backlog of 100 000 steps before one worker: its messages are counted, and urgent work overtakes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tasker import Task, TaskRequest
from tasker.dev.redis import start_redis
from tests.acceptance.apps import backlog
from tests.acceptance.system import APPS, THRESHOLDS, System, Thresholds, eventually
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


class Line(NamedTuple):
    """A backlog: its templates, and how many tasks come before and after that of the lowest priority."""

    one: str
    many: str
    steps: int
    before: int
    after: int
    work_seconds: float
    thresholds: Thresholds


CHILDREN = 2
URGENT_SECONDS = 2
THOUSANDS = Line(
    "backlog/long", "backlog/few", backlog.FEW_STEPS, 2, 25, backlog.LONG_WORK_SECONDS, THRESHOLDS
)
HUNDRED_THOUSAND = Line("backlog/one", "backlog/many", backlog.STEPS, 2, 100, backlog.WORK_SECONDS, {})


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(THOUSANDS, id="thousands"),
        pytest.param(HUNDRED_THOUSAND, id="100 000", marks=pytest.mark.slow),
    ],
)
def test_an_urgent_task_overtakes_a_backlog_and_the_lowest_priority_still_moves(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    line: Line,
) -> None:
    with (
        System(database_url, redis_url, tmp_path, line.thresholds) as system,
        system.worker(f"{APPS}.backlog", "--concurrency", str(CHILDREN)) as worker,
    ):
        system.ready(worker)
        assert system.settled(system.submit(line.one)) == "complete"
        known = "select count(*) from tasker.handlers"
        eventually(lambda: system.one(known) == 1, "it is known how long a step takes")

        system.tasker.submit_many((line.many, None) for _ in range(line.before))
        lowest = system.tasker.submit(line.one, priority=-100)
        assert list(system.states(lowest.id).values()) == ["ready"]
        high = system.tasker.submit_many(TaskRequest(line.many, priority=50) for _ in range(line.after))
        urgent = system.tasker.submit(line.one, priority=100)

        assert system.settled(urgent) == "complete"
        # two seconds, told by what two children could do in them however slow this machine is
        assert begun_before(system, urgent) <= CHILDREN * URGENT_SECONDS / line.work_seconds
        assert waiting(system) > line.after * line.steps / 2
        record_property("urgent_seconds", seconds(system, urgent))

        assert lowest.wait(SECONDS).state == "complete"
        assert waiting(system) > 0
        assert not all_complete(system, high)
        assert system.violations() == []


def begun_before(system: System, task: Task) -> int:
    """How many steps of others have begun from a task's submit to its end."""
    query = (
        "select count(*) from tasker.step_attempts a join tasker.tasks t on t.id = %s"
        " where a.claimed_at between t.created_at and t.finished_at"
    )
    return int(system.one(query, task.id))


def waiting(system: System) -> int:
    """How many steps wait for room."""
    return int(system.one("select count(*) from tasker.steps where ready_at is not null"))


def seconds(system: System, task: Task) -> float:
    """From a task's submit to its end."""
    query = "select extract(epoch from finished_at - created_at)::float8 from tasker.tasks where id = %s"
    return float(system.one(query, task.id))
