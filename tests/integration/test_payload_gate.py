"""What people write, at its limits and beyond: stored as it is, or refused by name before SQL is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from tasker import TaskRequest, ValueRefused
from tasker.db import functions, queries
from tasker.db.dead_letters import list_dead_letters
from tasker.domain.errors import Rejected
from tasker.domain.records import TaskFilter
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration import operate
from tasker.orchestration.client import Tasker
from tasker.orchestration.engine import Engine
from tasker.orchestration.templates import store
from tasker.settings import Settings

LARGEST = "\N{SNAKE}"
"""Four bytes in UTF-8."""


@pytest.fixture
def tasks(database_url: str, redis_url: str) -> Iterator[Tasker]:
    settings = Settings(database_url=SecretStr(database_url), broker_url=SecretStr(redis_url))
    client = Tasker(settings)
    names = ("n" * 100, "t" * 100, "1.0.0")
    for name in (names, ("shop", "report", "1.0.0")):
        store(client.database, TemplateDefinition(*name, (StepDefinition("a", "a"),)), "celery")
    yield client
    client.close()


def test_everything_at_its_limit_is_stored(tasks: Tasker) -> None:
    words = {
        "idempotency_key": LARGEST * 255,
        "initiator": LARGEST * 255,
        "source_system": LARGEST * 255,
        "reason": LARGEST * 2000,
        "tags": [LARGEST * 100] * 100,
        "priority": 100,
    }
    request: dict[str, Any] = {"context": {"a": "x" * 1_048_000}, "run_after": timedelta(days=36_525)}
    task = tasks.submit(f"{'n' * 100}/{'t' * 100}", **request, **words)  # type: ignore[arg-type]
    found = tasks.database.call(queries.get_task, task.id)
    assert {name: getattr(found, name) for name in words} == words
    assert tasks.submit(f"{'n' * 100}/{'t' * 100}", **request, **words).id == task.id  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["a\0b", "\ud800", "x" * 2001])
@pytest.mark.parametrize(
    "act",
    [
        operate.cancel_task,
        operate.pause_task,
        operate.resume_task,
        lambda engine, _, **who: operate.park_steps(engine, [1], **who),
        lambda engine, _, **who: operate.retry_steps(engine, [1], **who),
        lambda engine, _, **who: operate.pause_queue(engine, "celery", **who),
    ],
)
def test_an_operators_words_are_refused_by_name(
    tasks: Tasker, act: Callable[..., object], wrong: str
) -> None:
    engine: Engine = tasks.engine
    task = tasks.submit("shop/report").id
    with pytest.raises(ValueRefused, match=r"^reason: "):
        act(engine, task, actor="ann", reason=wrong)
    with pytest.raises(ValueRefused, match=r"^actor: "):
        act(engine, task, actor=wrong, reason=None)


def test_one_request_that_is_refused_refuses_its_thousand_and_names_why(tasks: Tasker) -> None:
    requests = [TaskRequest("shop/report", reason="fine"), TaskRequest("shop/report", reason="\0")]
    with pytest.raises(ValueRefused, match=r"^reason: a string with a NUL"):
        tasks.submit_many(requests)
    assert tasks.database.call(queries.list_tasks).items == []


def test_what_is_too_long_for_postgresql_is_refused_for_good_and_no_outage(tasks: Tasker) -> None:
    key = "".join(f"{number:x}" for number in range(2000))  # too varied to be compressed
    asked = {"id": str(UUID(int=1)), "namespace": "shop", "name": "report", "idempotency_key": key}
    request = json.dumps([{**asked, "request_digest": "x", "priority": 0, "tags": [], "context": {}}])
    with pytest.raises(Rejected, match="index row size"):
        tasks.engine.run(functions.submit_tasks, request, joined=False)


@pytest.mark.parametrize("wrong", ["\0", "\udcff"])
def test_what_is_asked_for_in_no_text_is_refused_and_not_a_defect(tasks: Tasker, wrong: str) -> None:
    with pytest.raises(Rejected):
        tasks.database.call(queries.list_tasks, TaskFilter(tag=wrong))
    with pytest.raises(Rejected):
        tasks.database.call(queries.get_step, UUID(int=1), wrong)
    with pytest.raises(Rejected):
        tasks.database.call(list_dead_letters, fingerprint=wrong)
    with pytest.raises(Rejected):
        tasks.submit("shop/report").result(wrong)
