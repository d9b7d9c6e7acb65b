"""Workers as people run them: by Celery's own command, in every pool, old code beside new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tasker import TaskNotFound
from tasker.events.catalogue import Event
from tasker.events.signals import off, on
from tests.acceptance.apps import late, troubled
from tests.acceptance.system import APPS, System, eventually
from workers import EXAMPLES

TASKER = ("tasker",)
CELERY = ("celery",)
LATE = f"{APPS}.late"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (CELERY, ["--concurrency", "2", "--loglevel", "INFO"]),
        (CELERY, ["--pool", "threads", "--concurrency", "2"]),
        pytest.param(TASKER, ["--pool", "solo"], marks=pytest.mark.slow),
    ],
    ids=["celery-prefork", "celery-threads", "tasker-solo"],
)
def test_an_application_with_a_celery_app_of_its_own_runs_all_it_has(
    own_system: System, command: tuple[str, ...], options: list[str]
) -> None:
    with own_system.worker(f"{APPS}.assorted", *options, command=command) as worker:
        own_system.ready(worker)
        own_system.tasker.celery.send_task(f"{APPS}.assorted.unrelated", (7,), queue="assorted")
        task = own_system.submit("assorted/all", {"tenant": "acme"}).wait(timeout=20)

        assert task.state == "complete"
        assert task.result("gathered")["said"] == "ACME OF_THE_APP, SHARED, AWAITED BY ACME"
        (thread, loop), (next_thread, next_loop) = (task.result(n)["place"] for n in ("awaited", "gathered"))
        assert loop == next_loop or thread != next_thread
        steps = ["of_the_app", "shared", "awaited", "gathered"]
        told = [*(f"after {step}" for step in steps), *(f"step.completed {step}" for step in steps)]
        log = own_system.folder / "log"
        expected = sorted([*told, "task.completed None", "unrelated 7"])
        eventually(lambda: sorted(log.read_text().splitlines()) == expected, f"the log says {expected}")


def test_a_step_whose_handler_no_worker_has_waits_for_one_that_has_it(own_system: System) -> None:
    with own_system.worker(f"{APPS}.ledger", "--pool", "solo") as old:
        own_system.ready(old)
        task = own_system.tasker.submit(late.news)
        query = "select given_back from tasker.steps where task_id = %s and name = 'first'"
        eventually(lambda: own_system.one(query, task.id) > 0, "the worker without the handler gives it back")
        assert "late/news.first" in " ".join(task.why())

    with own_system.worker(LATE, "--pool", "solo"):
        assert task.wait(timeout=20).state == "complete"
    assert task.result("second") == "first, second"


def test_the_application_is_told_of_what_it_submits_and_no_broken_receiver_hurts_it(system: System) -> None:
    told: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("a receiver of the application is broken")

    def hear(event: Event) -> None:
        told.append(event)

    on("task.created")(broken)
    on("task.created")(hear)
    try:
        task = system.submit("examples/linear", {"a": 1, "b": 0, "c": -4})
    finally:
        off("task.created", broken)
        off("task.created", hear)
    assert [(event.name, event.task_id, event.to_state) for event in told] == [
        ("task.created", str(task.id), "in_progress")
    ]
    assert task.wait(timeout=20).result("solutions") == [-2, 2]


@contextmanager
def committed(system: System, kind: str) -> Iterator[Any]:
    """A connection whose transaction is committed at the end of the block."""
    if kind == "psycopg":
        with psycopg.connect(system.database_url) as connection:
            yield connection
    else:
        url = system.database_url.replace("postgresql:", "postgresql+psycopg:")
        with Session(sa.create_engine(url, poolclass=sa.NullPool)) as session, session.begin():
            yield session


@pytest.mark.parametrize("kind", ["psycopg", "session"])
def test_a_task_submitted_inside_a_transaction_runs_after_its_commit(system: System, kind: str) -> None:
    example = EXAMPLES["diamond"]
    with committed(system, kind) as connection:
        task = system.tasker.submit(example.template, example.context, connection=connection)
        with pytest.raises(TaskNotFound):
            task.wait(timeout=0)
    assert task.wait(timeout=20).state == "complete"
    assert example.found(task) == example.expected()


def test_what_a_worker_has_measured_lets_what_others_submit_share_messages(system: System) -> None:
    def claims() -> int:
        task = system.submit("troubled/quick")
        assert system.settled(task) == "complete"
        query = """
            select count(distinct a.claim_id)
            from tasker.steps s
            join tasker.step_attempts a on a.step_id = s.id
            where s.task_id = %s and a.attempt = 1
        """
        return int(system.one(query, task.id))

    assert claims() == troubled.QUICK_STEPS, "nobody knows how long they take"
    known = "select count(*) from tasker.handlers where name = 'troubled/nothing'"
    eventually(lambda: system.one(known), "the worker has said how long they take")
    assert claims() < troubled.QUICK_STEPS
