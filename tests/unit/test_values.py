"""The strict walk from Python values to JSON: what it writes, what it refuses, and where it says so."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from tasker.domain.errors import ValueRefused
from tasker.domain.values import encode, fresh

Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped kind exists too


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Kind(StrEnum):
    BOOK = "book"


class Line(BaseModel):
    sku: str
    price: Decimal = Field(alias="unitPrice")


class Order(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    id: UUID
    lines: list[Line] = []
    tags: Any = None


@dataclass
class Parcel:
    weight: Decimal
    contents: list[Line] = field(default_factory=list)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemError(name)

    __repr__ = __str__ = lambda self: self.nothing


class HostileMapping(UserDict[str, object]):
    def __iter__(self) -> Any:
        raise OSError("away")


class HostileInt(int):
    def __int__(self) -> int:
        raise ArithmeticError("not today")


@dataclass(unsafe_hash=True)
class HostileData:
    there: int

    def __getattribute__(self, name: str) -> Any:
        if name == "there":
            raise LookupError("gone")
        return super().__getattribute__(name)


class HostileZone(tzinfo):
    def utcoffset(self, at: datetime | None) -> timedelta:
        raise RuntimeError(f"no zone at this {type(at).__name__}")


class Alike(str):
    """Text that is equal to no other."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def encoded(value: object, limit_bytes: int = 1 << 20, max_depth: int = 64) -> str:
    return encode(value, limit_bytes=limit_bytes, max_depth=max_depth, where="context")


def refusal(value: object, **limits: int) -> str:
    with pytest.raises(ValueRefused) as refused:
        encoded(value, **limits)
    return str(refused.value)


characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(characters), inner, max_size=5),
    max_leaves=30,
)
HOSTILE: list[Any] = [
    Hostile(),
    HostileMapping(),
    HostileInt(1),
    HostileData(1),
    datetime(2026, 1, 2, tzinfo=HostileZone()),
]
hostile = st.integers(0, len(HOSTILE) - 1).map(lambda number: HOSTILE[number])  # hypothesis prints numbers
anything = st.recursive(
    st.none()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.integers(-(10**5000), 10**5000)
    | st.complex_numbers()
    | st.timedeltas()
    | hostile
    | st.sampled_from([Colour.RED, Size.SMALL, Kind, object(), NotImplemented, range(3)]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner)
        | st.builds(UserDict, st.dictionaries(st.text(), inner))
        | st.builds(Parcel, inner, inner)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=10,
)


@given(plain_json)
def test_plain_json_comes_back_as_it_was(value: object) -> None:
    assert json.loads(encoded(value)) == value


@given(anything)
def test_whatever_is_not_refused_is_text_that_postgresql_takes(value: object) -> None:
    try:
        text = encoded(value)
    except ValueRefused:
        return
    strict = json.loads(text, parse_constant=pytest.fail)
    text.encode()
    assert "\0" not in json.dumps(strict, ensure_ascii=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("9.50"), '"9.50"'),
        (Decimal("1E+3"), '"1E+3"'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05+00:00"'),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), '"2026-01-02T00:00:00+02:00"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (time(3, 4), '"03:04:00"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, '"red"'),
        (Size.SMALL, "1"),
        (Kind.BOOK, '"book"'),
        ((1, 2), "[1,2]"),
        (Point(1, 2), "[1,2]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (defaultdict(list, a=[1]), '{"a":[1]}'),
        (UserDict(a=1), '{"a":1}'),
        ({Kind.BOOK: 1}, '{"book":1}'),
        (Text("as written"), '"as written"'),
        ("café ☕ 𝄞", '"café ☕ 𝄞"'),
        ("a backslash and \\u0000 in letters", '"a backslash and \\\\u0000 in letters"'),
        (True, "true"),
        (10**3999, "1" + "0" * 3999),
        (1e308, "1e+308"),
        (Line(sku="a", unitPrice=Decimal(1)), '{"sku":"a","unitPrice":"1"}'),
        (
            Parcel(Decimal("0.1"), [Line(sku="b", unitPrice=Decimal(2))]),
            '{"weight":"0.1","contents":[{"sku":"b","unitPrice":"2"}]}',
        ),
    ],
)
def test_a_value_is_written_as(value: object, expected: str) -> None:
    assert encoded(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"items": [0, 1, 2, {"price": float("nan")}]}, "context.items[3].price: NaN is not JSON; use None"),
        ({"a": float("-inf")}, "context.a: -Infinity is not JSON"),
        ({"a": json.loads("1e5000")}, "context.a: Infinity is not JSON"),
        ({"a": Decimal("NaN")}, "context.a: NaN is not JSON"),
        ({"a": Decimal("1e5000")}, "context.a: Decimal('1E+5000') is out of range (exponent 5000)"),
        ({"a": 10**4000}, "context.a: an integer of more than 4000 digits"),
        ({"a": {1, 2}}, "context.a: set is not JSON; it has no order; use sorted(...) or a list"),
        ({"a": b"x"}, "context.a: bytes is not JSON; decode it, or encode it as base64 text"),
        ({"a": datetime(2026, 1, 2)}, "context.a: the datetime 2026-01-02T00:00:00 has no time zone"),  # noqa: DTZ001
        ({"a": {1: 2}}, "context.a: the key 1 is not a string"),
        ({"a": {None: 2}}, "context.a: the key None is not a string"),
        ({Colour.RED: 2}, "is not a string; JSON has only string keys"),
        ({"a b": [object()]}, "context['a b'][0]: object is not JSON; return plain data"),
        ({"a": Order}, "did you mean an instance of it?"),
        ({"a": timedelta(1)}, "context.a: datetime.timedelta is not JSON"),
        ({"a": "x\0y"}, "context.a: a string with a NUL character"),
        ({"a": {"x\0": 1}}, "context.a: the key 'x\\x00': a string with a NUL character"),
        ({"a": ["\ud800"]}, "context.a[0]: a string with half a surrogate pair"),
        (Order(id=UUID(int=1), tags={"x"}), "context.tags: set is not JSON"),
        (Order(id=UUID(int=1), tags=[float("nan")]), "context.tags[0]: NaN is not JSON"),
        (Parcel(weight=Decimal("Infinity")), "context.weight: Infinity is not JSON"),
        ((item for item in [1]), "context: generator is not JSON"),
        ({"a": [Hostile()]}, "context.a[0]: tests.unit.test_values.Hostile could not be read: SystemError("),
        ({Hostile(): 1}, "context: the key <Hostile whose repr() raised SystemError> is not a string"),
        ({"a": HostileMapping(x=1)}, "HostileMapping could not be read: OSError('away')"),
        ({"a": HostileInt(1)}, "HostileInt could not be read: ArithmeticError("),
        ({"a": HostileData(1)}, "HostileData could not be read: LookupError('gone')"),
        (
            [datetime(2026, 1, 2, tzinfo=HostileZone())],
            "context[0]: datetime.datetime could not be read: Run",
        ),
        ({"a": {Alike("b"): 1, Alike("b"): 2}}, "context.a: two of its keys are written alike"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_path(value: object, message: str) -> None:
    assert message in refusal(value)


def test_the_size_is_counted_in_bytes_of_the_text() -> None:
    assert encoded("é" * 10, limit_bytes=22) == '"' + "é" * 10 + '"'
    assert "22 bytes of JSON are over the limit of 21" in refusal("é" * 10, limit_bytes=21)
    assert "over the limit" in refusal(["x" * 8] * 3, limit_bytes=30)


def test_a_small_structure_that_would_print_as_terabytes_is_refused_quickly() -> None:
    shared: list[Any] = ["x" * 1000]
    for _ in range(60):
        shared = [shared] * 10
    assert "larger than the limit of 1048576 bytes" in refusal({"a": shared})


def test_a_million_keys_and_keys_that_are_long_are_refused_by_their_size() -> None:
    assert "larger than the limit" in refusal(dict.fromkeys(map(str, range(10**6))))
    long = "k" * 1000
    assert "larger than the limit" in refusal([{long: None} for _ in range(100_000)])


def test_digits_that_this_process_does_not_print_are_refused() -> None:
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert "Exceeds the limit (640 digits)" in refusal({"a": 10**700})
    finally:
        sys.set_int_max_str_digits(digits)


def test_depth_counts_nested_containers() -> None:
    assert encoded([[[]]], max_depth=3) == "[[[]]]"
    assert refusal([[[]]], max_depth=2).startswith("context[0][0]: nested deeper than 2 levels")


@pytest.mark.parametrize("max_depth", [64, 10**6])
def test_input_of_any_depth_is_refused_and_never_exhausts_the_stack(max_depth: int) -> None:
    nested: Any = None
    for _ in range(50 * sys.getrecursionlimit()):
        nested = {"a": nested}
    assert "nested" in refusal(nested, max_depth=max_depth)


def test_a_structure_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "nested deeper than 64 levels" in refusal(loop)
    model = Order(id=UUID(int=1))
    model.tags = [model]
    assert "nested deeper than 64 levels" in refusal(model)


def test_a_coroutine_that_was_not_awaited_is_named() -> None:
    async def fetch() -> int:
        return 1

    coroutine = fetch()
    assert "context: coroutine is not JSON; it was not awaited" in refusal(coroutine)
    coroutine.close()


@given(plain_json)
def test_a_fresh_copy_is_equal_and_shares_nothing_that_can_change(value: Any) -> None:
    copy = fresh(value)
    assert copy == value

    def containers(part: Any) -> list[int]:
        if not isinstance(part, dict | list):
            return []
        inner = list(part.values()) if isinstance(part, dict) else part
        return [id(part)] + [number for item in inner for number in containers(item)]

    assert not set(containers(copy)) & set(containers(value))
