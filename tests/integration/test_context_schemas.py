"""A context submitted by name fits the schema stored with the template, whichever version is the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from json import dumps
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from tasker import TaskRequest, ValueRefused
from tasker.db import functions
from tasker.domain.errors import ContextUnchecked
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration.client import Tasker
from tasker.orchestration.templates import store
from tasker.settings import Settings
from tests.sql.protocol import request

WHOLE = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
WORDS = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
ENDLESS = {"allOf": [{"$ref": "#"}]}


@pytest.fixture
def tasks(database_url: str, redis_url: str) -> Iterator[Tasker]:
    client = Tasker(Settings(database_url=SecretStr(database_url), broker_url=SecretStr(redis_url)))
    yield client
    client.close()


Register = Callable[..., None]


@pytest.fixture
def register(tasks: Tasker) -> Register:
    def register(version: str, schema: dict[str, Any] | None, name: str = "report") -> None:
        steps = (StepDefinition("a", "a"),)
        store(tasks.database, TemplateDefinition("shop", name, version, steps, "", schema), "celery")

    return register


def test_a_context_that_does_not_fit_is_refused_with_its_path_and_one_that_does_is_not(
    tasks: Tasker, register: Register
) -> None:
    register("1.0.0", WHOLE)
    for _ in range(2):
        with pytest.raises(ValueRefused, match=r"^context\.id: 'x' is not of type 'integer'$"):
            tasks.submit("shop/report", {"id": "x"})
        assert tasks.submit("shop/report", {"id": 1}).created
        with pytest.raises(ValueRefused, match="'id' is a required property"):
            tasks.submit("shop/report@1.0.0")


def test_the_schema_is_that_of_the_version_that_counts_at_each_submit(
    tasks: Tasker, register: Register
) -> None:
    register("1.0.0", None)
    assert tasks.submit("shop/report", {"id": None}).created
    register("1.1.0", WHOLE)
    assert tasks.submit("shop/report", {"id": 1}).created
    register("1.2.0", WORDS)
    with pytest.raises(ValueRefused, match="is not of type 'string'"):
        tasks.submit("shop/report", {"id": 1})
    assert tasks.submit("shop/report", {"id": "one"}).created
    assert tasks.submit("shop/report@1.1.0", {"id": 1}).created
    assert tasks.submit("shop/report", {"id": 1}, version="1.0.0").created
    register("1.3.0", None)
    assert tasks.submit("shop/report", {"id": None}).created


def test_many_at_once_are_each_held_against_their_own(tasks: Tasker, register: Register) -> None:
    for number in range(5):
        register("1.0.0", WHOLE if number % 2 else WORDS, name=f"report-{number}")
    register("1.0.0", None)
    requests = [
        TaskRequest(f"shop/report-{number}", {"id": 1 if number % 2 else "one"}) for number in range(5)
    ]
    assert len(tasks.submit_many([*requests, TaskRequest("shop/report")])) == 6
    with pytest.raises(ValueRefused, match=r"context\.id: 1 is not of type 'string'"):
        tasks.submit_many([*requests, TaskRequest("shop/report-0", {"id": 1})])
    ((count,),) = tasks.database.call(lambda own: own.execute("select count(*) from tasker.tasks").fetchall())
    assert count == 6


def test_in_a_transaction_of_the_caller_it_is_the_version_he_sees(
    tasks: Tasker, register: Register, database_url: str
) -> None:
    register("1.0.0", WHOLE)
    with psycopg.connect(database_url) as own:
        own.execute("set transaction isolation level repeatable read")
        own.execute("select 1")
        register("1.1.0", WORDS)
        with pytest.raises(ValueRefused, match="is not of type 'integer'"):
            tasks.submit("shop/report", {"id": "x"}, connection=own)
        assert tasks.submit("shop/report", {"id": 1}, connection=own).created
    assert tasks.submit("shop/report", {"id": "one"}).created


def test_a_repeat_finds_its_task_though_a_new_version_would_refuse_the_context(
    tasks: Tasker, register: Register
) -> None:
    register("1.0.0", WHOLE)
    sent = TaskRequest("shop/report", {"id": 1}, idempotency_key="order-1")
    (first,) = tasks.submit_many([sent])
    register("1.1.0", WORDS)
    assert tasks.submit_many([sent])[0].id == first.id
    assert tasks.submit("shop/report", {"id": 1}, idempotency_key="order-1").id == first.id


def test_a_schema_that_comes_to_no_end_refuses_and_does_not_break(tasks: Tasker, register: Register) -> None:
    register("1.0.0", ENDLESS)
    with pytest.raises(ValueRefused, match="comes to no end"):
        tasks.submit("shop/report", {"id": 1})


def test_whoever_calls_the_function_himself_is_told_which_version_it_is(
    tasks: Tasker, register: Register
) -> None:
    register("1.0.0", WHOLE)
    asked = [request(namespace="shop", template="report", context={"id": "x"})]
    with pytest.raises(ContextUnchecked) as refused:
        tasks.database.call(functions.submit_tasks, dumps(asked), joined=False, moves=False)
    told = refused.value
    assert (told.namespace, told.name, told.version, told.found) == ("shop", "report", None, "1.0.0")
