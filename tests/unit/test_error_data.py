"""Exceptions as plain data: whatever they hold, they become text that can be stored, within the limit."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain.error_data import LEAST_BYTES, describe, shortened
from tasker.domain.redaction import Redaction
from tasker.orchestration.patience import until_answered

LIMIT = 16 << 10


class Broken(Exception):
    """An exception that behaves as it is told when somebody looks at it."""

    def __init__(self, behave: Callable[[], Any]) -> None:
        super().__init__("broken")
        self.behave = behave

    def __str__(self) -> str:
        return self.behave()  # type: ignore[no-any-return]

    __repr__ = __str__


class Text(str):
    """Text that defends itself."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("no")

    __len__ = __str__ = encode = replace = __getitem__  # type: ignore[assignment]


def throw(error: BaseException) -> Callable[[], Any]:
    def behave() -> Any:
        raise error

    return behave


def endless() -> Any:
    return endless()


def charge() -> None:
    raise ValueError("no card")


async def charge_later() -> None:
    charge()


def raised(error: BaseException) -> BaseException:
    """The error with a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def because_of(cause: BaseException, error: BaseException) -> BaseException:
    """The error, raised from the cause."""
    error.__cause__ = raised(cause)
    return raised(error)


def size(described: dict[str, Any]) -> int:
    return len(json.dumps(described, ensure_ascii=False).encode())


def chain(length: int) -> BaseException:
    """An error caused by an error, and so on."""
    error = ValueError("the first")
    for number in range(length):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    return error


def circle() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def named(name: Any) -> BaseException:
    """An error of a class with a strange name."""
    return type("Strange", (Exception,), {"__module__": name})("x")  # type: ignore[no-any-return]


HOSTILE = {
    "str raises": Broken(throw(RuntimeError("no"))),
    "str exits": Broken(throw(SystemExit(1))),
    "str is interrupted": Broken(throw(KeyboardInterrupt())),
    "str raises itself": Broken(throw(Broken(throw(Broken(endless))))),
    "str recurs": Broken(endless),
    "str returns no text": Broken(lambda: 7),
    "str returns nothing": Broken(lambda: None),
    "str returns text that raises": Broken(lambda: Text("evasive")),
    "10 MB": ValueError("x" * 10_000_000),
    "10 MB of four bytes": ValueError("\N{SNAKE}" * 2_500_000),
    "10 MB to be escaped": ValueError("\x01" * 10_000_000),
    "10 MB of quotes": ValueError('"' * 10_000_000),
    "NUL and half a surrogate pair": ValueError("nul \0, lone \ud800"),
    "10 000 causes": chain(10_000),
    "a circle of causes": circle(),
    "a group": ExceptionGroup("many", [ValueError(f"number {n}") for n in range(1000)]),
    "groups in groups": ExceptionGroup("a", [ExceptionGroup("b", [ExceptionGroup("c", [ValueError("d")])])]),
    "a group of the broken": BaseExceptionGroup("x", [Broken(throw(SystemExit(1))), KeyboardInterrupt()]),
    "a module without a name": named(None),
    "a module of any name": named("\0\ud800" * 10_000),
    "no arguments": ValueError(),
    "a key": KeyError("ü" * 50_000),
    "os": OSError(2, "No such file", "\udcff"),
}


@pytest.mark.parametrize("limit", [LEAST_BYTES, LIMIT])
@pytest.mark.parametrize("error", HOSTILE.values(), ids=HOSTILE)
def test_any_exception_becomes_storable_text_within_the_limit(error: BaseException, limit: int) -> None:
    begun = time.perf_counter()
    described = describe(raised(error), limit)
    assert time.perf_counter() - begun < 1
    assert size(described) <= limit
    assert set(described) - {"frame"} == {"type", "message", "traceback"}
    assert {type(value) for value in described.values()} == {str}
    assert "\0" not in "".join(described.values())


@given(st.text(st.characters()), st.integers(LEAST_BYTES, 5000))
def test_any_message_fits_and_its_beginning_is_kept(message: str, limit: int) -> None:
    described = describe(ValueError(message), limit)
    assert size(described) <= limit
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HOSTILE["str raises"], "<the message could not be read: RuntimeError>"),
        (HOSTILE["str exits"], "<the message could not be read: SystemExit>"),
        (HOSTILE["str recurs"], "<the message could not be read: RecursionError>"),
        (HOSTILE["str returns no text"], "<the message could not be read: TypeError>"),
        (HOSTILE["NUL and half a surrogate pair"], "nul \N{REPLACEMENT CHARACTER}, lone ?"),
        (HOSTILE["a key"], f"'{'ü' * 2500}"),
        (HOSTILE["groups in groups"], "a (1 sub-exception)"),
    ],
)
def test_the_message_says_what_can_be_said(error: BaseException, message: str) -> None:
    assert describe(error, LIMIT)["message"].startswith(message)


def test_a_cut_message_says_how_long_it_was() -> None:
    assert describe(ValueError("x" * 10_000_000), LIMIT)["message"].endswith("x… (10000000 characters)")
    assert shortened("é" * 100, 200) == "é" * 100
    assert shortened("é" * 100, 199) == "é" * 83 + "… (100 characters)"


def test_the_room_is_used() -> None:
    assert size(describe(raised(ValueError("x" * 100_000)), LIMIT)) > LIMIT // 3
    long = describe(raised(chain(7)), LIMIT)
    assert size(long) > 500


def test_the_traceback_names_where_it_happened_and_what_caused_it() -> None:
    described = describe(because_of(KeyError("first"), ValueError("second")), LIMIT)
    lines = described["traceback"]
    assert lines.index("KeyError: 'first'") < lines.index("direct cause") < lines.rindex("in raised")
    assert described["message"] == "second"


@pytest.mark.parametrize("run", [lambda: partial(charge), lambda: partial(asyncio.run, charge_later())])
def test_the_traceback_begins_at_the_handler(run: Callable[[], Callable[[], Any]]) -> None:
    with pytest.raises(ValueError, match="no card") as caught:
        until_answered(run(), "what the engine does to call a handler")
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # without this test's own frame
    first, second, *_ = describe(error, LIMIT)["traceback"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert (f'File "{__file__}"' in second, ", in charge" in second) == (True, True)


def test_a_traceback_of_the_engine_alone_is_told_whole() -> None:
    with pytest.raises(TypeError, match="not callable") as caught:
        until_answered(None, "what cannot be called")  # type: ignore[arg-type]
    error = caught.value.with_traceback(caught.tb and caught.tb.tb_next)
    assert ", in until_answered" in describe(error, LIMIT)["traceback"]


def test_a_cause_that_was_suppressed_is_not_told() -> None:
    error = ValueError("second")
    error.__context__ = raised(KeyError("first"))
    assert "KeyError: 'first'" in describe(raised(error), LIMIT)["traceback"]
    error.__suppress_context__ = True
    assert "first" not in describe(error, LIMIT)["traceback"]


def test_of_many_causes_and_many_members_the_nearest_are_told() -> None:
    lines = describe(chain(10_000), LIMIT)["traceback"]
    assert lines.startswith("… (earlier causes are left out)")
    assert "number 9998" in lines
    assert "number 9000" not in lines
    members = describe(HOSTILE["a group"], LIMIT)["traceback"]
    assert "  | ValueError: number 9\n  | … and 990 more" in members


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    raise ValueError("at the bottom")


def test_of_a_deep_stack_the_frames_nearest_to_the_error_are_told() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with pytest.raises(ValueError, match="bottom") as caught:
            deep(10_000)
    finally:
        sys.setrecursionlimit(limit)
    lines = describe(caught.value, LIMIT)["traceback"]
    assert "Previous line repeated" in lines
    assert lines.rstrip().endswith('raise ValueError("at the bottom")')


def test_local_variables_are_not_told() -> None:
    def charge(card_number: str) -> None:
        raise ValueError(f"a card of {len(card_number)} digits was refused")

    with pytest.raises(ValueError, match="refused") as caught:
        charge("4111" + "1111")
    assert "41111111" not in str(describe(caught.value, LIMIT))


@pytest.mark.parametrize(
    "message",
    [
        "cannot reach postgresql://shop:hunter2secret@db/shop",
        "headers were {'Authorization': 'Bearer hunter2secret'}",
        "login(user='ann', password='hunter2secret')",
        "the literal hunter2secret",
        "x " * 2620 + "token=hunter2secret",
        "x " * 10_470 + "token=hunter2secret " + "y" * 10_000_000,
    ],
)
def test_a_secret_is_told_neither_in_message_nor_traceback_nor_cause(message: str) -> None:
    hiding = Redaction(["hunter2secret"])
    error = because_of(KeyError(message), ValueError(message))
    assert "hunter" not in str(describe(error, LIMIT, hiding))
    assert "hunter" not in str(describe(ExceptionGroup("x", [ValueError(message)]), LIMIT, hiding))


def test_the_frame_is_the_innermost_function_of_the_application() -> None:
    def charge() -> None:
        json.loads("{")

    with pytest.raises(ValueError, match="Expecting") as caught:
        charge()
    frame = describe(caught.value, LIMIT)["frame"]
    assert frame.startswith("tests.unit.test_error_data.test_the_frame_is_the_innermost_function")
    assert frame.endswith(".<locals>.charge")
    assert "frame" not in describe(ValueError("never raised"), LIMIT)
