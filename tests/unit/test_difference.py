"""What is said of a template that was changed and kept its version."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasker.domain.difference import conflict_text, differences
from tasker.domain.retry import Retry
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.domain.version import bumped

CHARGE = StepDefinition("charge", "orders/fulfilment.charge", retry=Retry(max_attempts=3))
SHIP = StepDefinition("ship", "orders/fulfilment.ship", ("charge",), timeout_seconds=60)
STORED = TemplateDefinition("orders", "fulfilment", "1.0.0", (CHARGE, SHIP))


def changed(**fields: Any) -> list[str]:
    """What is said when a field of `charge` has changed."""
    return differences(STORED, replace(STORED, steps=(replace(CHARGE, **fields), SHIP)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"queue": "slow"}, "charge.queue: nothing -> 'slow'"),
        ({"timeout_seconds": 5}, "charge.timeout_seconds: 300.0 -> 5.0"),
        ({"retry": Retry(max_attempts=5)}, "charge.retry.max_attempts: 3 -> 5"),
        ({"retry": Retry(never_for=(KeyError,))}, "charge.retry.never_for: () -> ('KeyError',)"),
        ({"config": {"url": {"host": "bank"}}}, "charge.config.url: nothing -> {'host': 'bank'}"),
        ({"handler": "pay"}, "charge.handler: 'orders/fulfilment.charge' -> 'pay'"),
        ({"start_within_seconds": 1}, "charge.start_within_seconds: nothing -> 1.0"),
        ({"max_batch": 1}, "charge.max_batch: nothing -> 1"),
        ({"transactional": True}, "charge.transactional: False -> True"),
    ],
)
def test_a_changed_field_is_named_with_its_old_and_its_new_value(fields: dict[str, Any], said: str) -> None:
    assert changed(**fields) == [said]


def test_steps_that_were_added_removed_and_moved_are_named() -> None:
    refund = StepDefinition("refund", "orders/fulfilment.refund")
    assert differences(STORED, replace(STORED, steps=(CHARGE, SHIP, refund))) == ["step refund was added"]
    assert differences(STORED, replace(STORED, steps=(CHARGE,))) == ["step ship was removed"]
    swapped = replace(STORED, steps=(SHIP, CHARGE))
    assert differences(STORED, swapped) == ["the order of the steps: charge, ship -> ship, charge"]


def test_the_context_schema_is_compared_part_by_part_without_descriptions() -> None:
    def of(kind: str, description: str) -> TemplateDefinition:
        schema = {"properties": {"amount": {"type": kind, "description": description}}}
        return replace(STORED, context_schema=schema)

    said = differences(of("number", "in euros"), of("string", "as text"))
    assert said == ["context_schema.properties.amount.type: 'number' -> 'string'"]


def test_what_the_digest_leaves_out_is_no_difference() -> None:
    other = replace(STORED, description="x", steps=(replace(CHARGE, description="y"), SHIP))
    assert other.digest == STORED.digest
    assert differences(STORED, other) == []


def test_a_conflict_shows_a_few_differences_and_ends_with_the_version_to_give() -> None:
    steps = tuple(StepDefinition(f"s{number}", "work") for number in range(10))
    lines = conflict_text(STORED, replace(STORED, steps=steps)).splitlines()
    assert lines[0] == "template orders/fulfilment@1.0.0 is stored with another definition:"
    assert lines[1] == "  step s0 was added"
    assert lines[-2:] == ["  and 6 more", "give it version 1.0.1"]
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("version", "following"),
    [
        ("1.0.0", "1.0.1"),
        ("1.9.99", "1.9.100"),
        ("1.0.0-rc.1", "1.0.0-rc.2"),
        ("1.0.0-beta", "1.0.1"),
        ("1.0.0+dev.3", "1.0.1"),
    ],
)
def test_the_version_to_give_is_the_next_one(version: str, following: str) -> None:
    assert bumped(version) == following
