"""Handlers that return and raise what no worker should stumble over."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from tasker import RetryableError, StepContext, TaskTemplate

SECRET = os.environ["TASKER_TEST_SECRET"]

template = TaskTemplate("hostile/all", version="1.0.0")


class Broken(Exception):
    """An exception nobody can look at."""

    def __str__(self) -> str:
        raise SystemExit("even this")

    __repr__ = __str__


class Unreadable:
    """A value nobody can look at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemError(name)


def circle() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return [inner]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


RETURNED: dict[str, Any] = {
    "a_set": lambda: {"x": {1, 2}},
    "some_bytes": lambda: [b"x"],
    "not_a_number": lambda: {"price": float("nan")},
    "decimal_nan": lambda: {"price": Decimal("NaN")},
    "too_large_a_number": lambda: {"price": Decimal("1e5000")},
    "a_circle": circle,
    "seventy_levels": lambda: nested(70),
    "a_million_keys": lambda: dict.fromkeys(map(str, range(1_000_000))),
    "a_nul": lambda: {"text": "a\0b"},
    "half_a_pair": lambda: {"text": "\ud800"},
    "unreadable": lambda: [Unreadable()],
}


def returning(make: Any) -> Any:
    def handler() -> Any:
        return make()

    return handler


for name, make in RETURNED.items():
    # tried again by policy, were it not for good
    template.add_step(returning(make), name=name, max_attempts=5)


@template.step(max_attempts=1)
def unspeakable() -> None:
    raise Broken


@template.step(max_attempts=1)
def endless() -> None:
    raise ValueError("x" * 10_000_000)


@template.step(max_attempts=1)
def caused_by_many() -> None:
    error = ValueError("the first")
    for number in range(10_000):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    raise error


@template.step(max_attempts=1)
def telling(step: StepContext) -> None:
    step.log.error("cannot log in", password=SECRET, error=ValueError(f"token={SECRET}"))
    raise ValueError(f"Authorization: Bearer {SECRET}") from KeyError(f"https://ann:{SECRET}@example.org")


@template.step(max_attempts=1)
def naming(step: StepContext) -> None:
    step.log.error("the database's own password", said=f"it is {SECRET}")
    raise ValueError(f"the literal {SECRET}")


@template.step(max_attempts=1)
def leaving() -> None:
    raise SystemExit(3)


@template.step(max_attempts=1)
def soon() -> None:
    error = RetryableError("busy", retry_after=1)
    error.retry_after = "soon"  # type: ignore[assignment]
    raise error


@template.step
def good() -> str:
    return "good"
