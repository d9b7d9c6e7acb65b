"""`@around_step`: what the application wraps around every step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

from tasker.domain.errors import TemplateError
from tasker.worker import around as around_module
from tasker.worker.around import around, around_step
from tasker.worker.context import StepContext

STEP = StepContext(
    task_id="t",
    step_id=1,
    name="charge",
    attempt=1,
    max_attempts=3,
    context_json={},
    load_result={}.__getitem__,
)


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around_module, "_arounds", [])


@pytest.fixture
def seen() -> list[str]:
    """Two functions that note what they see, the first registered outermost."""
    noted: list[str] = []

    def noting(name: str) -> Any:
        def function(step: StepContext) -> Generator[None]:
            noted.append(f"{name} enters {step.name}")
            try:
                yield
            except ValueError as error:
                noted.append(f"{name} sees {error}")
                raise
            finally:
                noted.append(f"{name} leaves")

        return function

    around_step(noting("outer"))
    around_step(noting("inner"))
    return noted


def test_functions_are_entered_in_order_and_left_in_reverse(seen: list[str]) -> None:
    with around(STEP):
        seen.append("handler")
    assert seen == [
        "outer enters charge",
        "inner enters charge",
        "handler",
        "inner leaves",
        "outer leaves",
    ]


def test_what_the_handler_raises_is_raised_in_each(seen: list[str]) -> None:
    with pytest.raises(ValueError, match="busy"), around(STEP):
        raise ValueError("busy")
    assert seen[2:] == ["inner sees busy", "inner leaves", "outer sees busy", "outer leaves"]


def test_an_exception_cannot_be_swallowed() -> None:
    @around_step
    def swallow(step: StepContext) -> Generator[None]:
        with suppress(ValueError):
            yield

    with pytest.raises(ValueError, match="busy"), around(STEP):
        raise ValueError("busy")


def test_an_exception_can_be_replaced() -> None:
    @around_step
    def translate(step: StepContext) -> Generator[None]:
        try:
            yield
        except ValueError as error:
            raise LookupError("translated") from error

    with pytest.raises(LookupError, match="translated"), around(STEP):
        raise ValueError("busy")


def test_a_function_that_fails_to_enter_leaves_those_before_it(seen: list[str]) -> None:
    @around_step
    def broken(step: StepContext) -> Generator[None]:
        raise ValueError("no connection")
        yield

    with pytest.raises(ValueError, match="no connection"), around(STEP):
        seen.append("handler")
    assert seen[-4:] == [
        "inner sees no connection",
        "inner leaves",
        "outer sees no connection",
        "outer leaves",
    ]


def test_without_functions_the_handler_runs_and_what_it_raises_comes_through() -> None:
    with pytest.raises(ValueError, match="busy"), around(STEP):
        raise ValueError("busy")


def test_the_function_is_returned_and_registered_once() -> None:
    calls: list[int] = []

    def function(step: StepContext) -> Generator[None]:
        calls.append(1)
        yield

    assert around_step(around_step(function)) is function
    with around(STEP):
        pass
    assert calls == [1]


def test_only_generator_functions_are_taken() -> None:
    with pytest.raises(TemplateError, match="takes a generator function that yields once"):
        around_step(print)
