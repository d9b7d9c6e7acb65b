"""Whoever waits for many tasks, one after the other, asks for few of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from tasker.db.engine import Database
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration import client
from tasker.orchestration.client import Task, Tasker
from tasker.orchestration.templates import store
from tasker.settings import Settings

TASKS = 130


@pytest.fixture
def tasker(database_url: str, redis_url: str) -> Iterator[Tasker]:
    tasker = Tasker(Settings(database_url=SecretStr(database_url), broker_url=SecretStr(redis_url)))
    store(tasker.database, TemplateDefinition("shop", "one", "1.0.0", (StepDefinition("a", "a"),)), "shop")
    yield tasker
    tasker.close()


@pytest.fixture
def looks(tasker: Tasker, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is asked of the database from now on."""
    asked: list[object] = []
    call = Database.call

    def counting(self: Database, function: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(function)
        return call(self, function, *args, **kwargs)

    monkeypatch.setattr(Database, "call", counting)
    assert tasker.database
    return asked


def complete(tasker: Tasker, tasks: list[Task]) -> None:
    """All of them, by an operator's word."""
    done = """
        select tasker.resolve_steps(
            array(select id from tasker.steps where task_id = any (%s)), null, 'operator', 'done', false)
    """
    ids = [task.id for task in tasks]
    tasker.database.call(lambda own: own.execute(done, [ids]).rowcount)


def grow_old() -> None:
    """Let the time pass for which the state of a fresh handle is taken for granted."""
    time.sleep(client.FRESH_SECONDS)


def test_waiting_for_many_tasks_that_are_complete_asks_for_65_at_a_time(
    tasker: Tasker, looks: list[object]
) -> None:
    tasks = tasker.submit_many([("shop/one", None)] * TASKS)
    complete(tasker, tasks)
    grow_old()
    looks.clear()
    assert [task.wait(10).state for task in tasks] == ["complete"] * TASKS
    assert len(looks) == 2


def test_a_task_that_is_waited_for_again_is_asked_for_again(tasker: Tasker, looks: list[object]) -> None:
    first, second = tasks = tasker.submit_many([("shop/one", None)] * 2)
    complete(tasker, tasks)
    grow_old()
    looks.clear()
    asked = []
    for task in (first, second, second, first):
        grow_old()
        assert task.wait(10).state == "complete"
        asked.append(len(looks))
    assert asked == [1, 1, 2, 3], "only the second was heard of by the way, and is believed to be so once"
