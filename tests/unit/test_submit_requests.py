"""Requests to submit, as SQL takes them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from tasker import TaskRequest, TaskTemplate, ValueRefused
from tasker.orchestration.stored_schemas import StoredSchemas
from tasker.orchestration.submit import request_json
from tasker.settings import Settings


def test_a_deadline_is_sent_in_milliseconds_and_only_when_given() -> None:
    def sent(**fields: Any) -> Any:
        return json.loads(
            request_json(TaskRequest("orders/fulfilment", **fields), Settings(), StoredSchemas({}))
        )

    assert sent(deadline_seconds=1.5)["deadline_ms"] == 1500
    assert "deadline_ms" not in sent()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 10**9, "60", True])
def test_what_is_no_length_of_time_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueRefused, match="deadline_seconds: must be above 0"):
        request_json(
            TaskRequest("orders/fulfilment", deadline_seconds=seconds), Settings(), StoredSchemas({})
        )


def refusal(**fields: Any) -> str:
    """Why the request is refused."""
    with pytest.raises(ValueRefused) as refused:
        request_json(
            TaskRequest(**{"template": "orders/fulfilment", **fields}), Settings(), StoredSchemas({})
        )
    return str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"idempotency_key": ""}, "idempotency_key: must not be empty"),
        ({"idempotency_key": "k" * 256}, "idempotency_key: 256 characters are over the limit of 255"),
        ({"idempotency_key": 42}, "idempotency_key: must be text, not 42"),
        ({"idempotency_key": "a\0b"}, "idempotency_key: a string with a NUL character"),
        ({"initiator": "\ud800"}, "initiator: a string with half a surrogate pair"),
        ({"initiator": "x" * 256}, "initiator: 256 characters"),
        ({"source_system": b"shop"}, "source_system: must be text, not b'shop'"),
        ({"reason": "x" * 2001}, "reason: 2001 characters are over the limit of 2000"),
        ({"tags": "red"}, "tags: must be a list of texts, not 'red'"),
        ({"tags": 7}, "tags: must be a list of texts, not 7"),
        ({"tags": ["red", "x" * 101]}, "tags[1]: 101 characters are over the limit of 100"),
        ({"tags": ["red", None]}, "tags[1]: must be text, not None"),
        ({"tags": ["a\0b"]}, "tags[0]: a string with a NUL character"),
        ({"tags": ["x"] * 101}, "tags: 101 are over the limit of 100"),
        ({"correlation_id": "order-42"}, "correlation_id: 'order-42' is not a UUID"),
        ({"parent_correlation_id": 42}, "parent_correlation_id: 42 is not a UUID"),
        ({"task_id": "\0"}, "task_id: '\\x00' is not a UUID"),
        ({"priority": 101}, "priority: must be a whole number from -100 to 100, not 101"),
        ({"priority": -101}, "priority: must be a whole number from -100 to 100, not -101"),
        ({"priority": "5"}, "priority: must be a whole number"),
        ({"priority": 1.5}, "priority: must be a whole number"),
        ({"priority": True}, "priority: must be a whole number"),
        ({"run_after": "tomorrow"}, "run_after: must be a datetime or a timedelta"),
        ({"run_after": 5}, "run_after: must be a datetime or a timedelta"),
        ({"run_after": timedelta.max}, "run_after: must be a datetime or a timedelta, 36525 days at most"),
        ({"run_after": datetime(2030, 1, 1)}, "request.run_after: the datetime 2030-01-01T00:00:00 has no t"),  # noqa: DTZ001
        ({"template": None}, "template: must be a name or a template, not None"),
        ({"template": "Orders"}, 'template: "Orders" names none: "Orders" must be'),
        ({"template": "x@1"}, 'template: "x@1": "1" is not a version'),
        (
            {"template": "x@1.0.0", "version": "1.0.1"},
            "version: '1.0.1' was asked for, but the template is n",
        ),
        ({"template": "x", "version": "one"}, "version: 'one' is not a version such as 1.0.0"),
        ({"template": "x", "version": 1}, "version: 1 is not a version such as 1.0.0"),
        ({"template": 7}, "template: must be a name or a template, not 7"),
        ({"context": [1]}, "context: must be a JSON object, not list"),
        ({"context": {"a": {1, 2}}}, "context.a: set is not JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name_before_postgresql_is_asked(
    fields: dict[str, Any], message: str
) -> None:
    assert refusal(**fields).startswith(message)


@pytest.mark.parametrize(("name", "version"), [("x@1.0.1", None), ("x@1.0.1", "1.0.1"), ("x", "1.0.1")])
def test_the_version_may_stand_in_the_name_beside_it_or_in_both(name: str, version: str | None) -> None:
    sent = json.loads(request_json(TaskRequest(name, version=version), Settings(), StoredSchemas({})))
    assert (sent["name"], sent["version"]) == ("x", "1.0.1")


def test_what_people_write_is_sent_as_they_wrote_it() -> None:
    fields: dict[str, Any] = {
        "idempotency_key": "order 42 🐍",
        "initiator": "Änn",
        "source_system": "shop",
        "reason": "it's \\u0000 in letters",
        "tags": ("red", "blue"),
        "priority": -5,
    }
    request = TaskRequest("orders/fulfilment", correlation_id=str(UUID(int=7)), **fields)
    sent = json.loads(request_json(request, Settings(), StoredSchemas({})))
    assert {name: sent[name] for name in fields} == fields | {"tags": ["red", "blue"]}
    assert sent["correlation_id"] == str(UUID(int=7))


class Order(BaseModel):
    order_id: int
    amount: Decimal


def test_a_context_that_does_not_fit_the_templates_type_is_refused_without_its_values() -> None:
    template = TaskTemplate("orders/fulfilment", version="1.0.0", context=Order)

    @template.step
    def charge(context: Order) -> None: ...

    said = refusal(template=template, context={"order_id": "hunter2", "amount": 1})
    assert said.startswith("context: does not fit Order: order_id: Input should be a valid integer")
    assert "hunter2" not in said
