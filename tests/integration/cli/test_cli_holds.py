"""`tasker task pause|resume` and `tasker queue`, while nobody works."""

from __future__ import annotations

from typing import Any

import psycopg

from tasker.orchestration.client import Tasker
from tests.integration.cli.typed import STORED, Run

QUEUE_KEYS = [
    "queue",
    "paused_at",
    "paused_by",
    "reason",
    "gate_open",
    "held",
    "published",
    "running",
    "workers",
    "last_heard_at",
]


def test_a_task_is_paused_and_resumed_with_actor_and_reason(
    run: Run, tasks: Tasker, connection: psycopg.Connection[Any]
) -> None:
    task = str(tasks.submit(STORED).id)
    assert run("task", "pause", task, "--reason", "bank is closed").out == f"{task} is paused\n"
    assert "(bank is closed); `tasker task resume" in run("task", "why", task).out
    resumed = run("task", "resume", task, "--reason", "bank is open", "-o", "json")
    assert resumed.json == {"task_id": task, "state": "in_progress"}
    log = connection.execute("select actor, reason from tasker.transitions where actor is not null")
    assert [(actor.partition("@")[0], why) for actor, why in log] == [
        ("ann", "bank is closed"),
        ("ann", "bank is open"),
    ]
    tasks.task(task).cancel()
    refused = run("task", "pause", task)
    assert (refused.code, refused.err) == (
        4,
        f"error: task {task} is cancelled, and only a task in progress can be paused\n",
    )


def test_a_queue_is_paused_listed_drained_and_resumed(run: Run, tasks: Tasker) -> None:
    tasks.submit(STORED)
    paused = run("queue", "pause", "celery", "--reason", "bank is closed", "-o", "json").json
    assert (list(paused), paused["reason"], paused["published"]) == (QUEUE_KEYS, "bank is closed", 1)
    tasks.submit(STORED)
    listed = run("queue", "list", "-o", "json").json
    assert [(item["queue"], item["held"], item["running"]) for item in listed["items"]] == [("celery", 1, 0)]
    columns = run("queue", "list").out.splitlines()[0]
    assert columns.split("  ")[0] == "QUEUE"
    drained = run("queue", "drain", "celery", "--timeout", "5s")
    assert (drained.code, drained.out) == (0, "queue celery is paused: 0 running, 2 waiting\n")
    assert run("queue", "resume", "celery").out == "queue celery goes on: 0 running, 2 waiting\n"


def test_a_full_queue_shows_its_closed_gate_and_what_waits_behind_it(
    run: Run, tasks: Tasker, connection: psycopg.Connection[Any]
) -> None:
    tasks.submit(STORED)
    connection.execute("update tasker.queues set gate_open = false")
    tasks.submit(STORED)
    (item,) = run("queue", "list", "-o", "json").json["items"]
    assert (item["gate_open"], item["held"], item["published"]) == (False, 1, 1)
    assert "closed" in run("queue", "list").out


def test_draining_too_long_has_its_own_exit_code_and_tells_how_much_still_runs(
    run: Run, tasks: Tasker, connection: psycopg.Connection[Any]
) -> None:
    tasks.submit(STORED)
    connection.execute(
        "select tasker.claim_steps(array(select id from tasker.steps where state = 'enqueued'),"
        " tasker.register_worker(null, 'main', gen_random_uuid(), 'host', 1, array['celery'],"
        " array(select handler from tasker.template_steps)), gen_random_uuid(), false)"
    )
    late = run("queue", "drain", "celery", "--timeout", "0.01s")
    assert (late.code, late.out) == (124, "")
    assert late.err.splitlines()[0] == "still running on queue celery: 1"
    assert "the queue stays paused" in late.err


def test_an_unknown_queue_is_exit_code_3(run: Run, tasks: Tasker) -> None:
    assert tasks.submit(STORED)
    for verb in ("pause", "resume", "drain"):
        ended = run("queue", verb, "celeri")
        assert (ended.code, ended.out) == (3, "")
        assert 'no queue "celeri"' in ended.err
