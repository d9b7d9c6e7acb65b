"""The strict way from Python values to the JSON text that is stored.

Nothing is dropped or guessed: what JSON cannot carry is refused with its path, as
`context.items[3].price: NaN is not JSON; …`. pydantic's own JSON mode turns NaN into null and sets
into lists, so models are dumped to Python and walked here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tasker.domain.errors import ValueRefused
from tasker.domain.wording import shown

_MAX_DIGITS = 4_000
"""Python refuses to print or parse integers of more than 4 300 digits."""
_HUGE = 10**_MAX_DIGITS
_LONG_KEY = 60

_dump = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def encode(value: object, *, limit_bytes: int, max_depth: int, where: str) -> str:
    """The JSON text of `value`.

    Decimal, date, time and UUID become strings, datetime ISO 8601 with its offset; an Enum its value;
    dataclasses and mappings objects; tuples arrays; pydantic models what their `model_dump` (by alias,
    so that the text validates again) gives. `limit_bytes` counts UTF-8 bytes of the text, `max_depth`
    nested arrays and objects. `where` begins the path of a message.

    Raises ValueRefused.
    """
    walk = _Walk(limit_bytes, max_depth)
    try:
        text = _dump(walk.plain(value, 0))
        size = len(text) if text.isascii() else len(text.encode())
    except _Refused as refused:
        raise ValueRefused(f"{_path(where, refused.keys)}: {refused.message}") from refused.__cause__
    except UnicodeEncodeError:
        _refuse_text(value, walk, where)
        raise
    except RecursionError:
        raise ValueRefused(f"{where}: nested too deep for this process; flatten it") from None
    except ValueError as exc:  # this process prints fewer digits than usual
        raise ValueRefused(f"{where}: {exc}") from None
    if size > limit_bytes:
        raise ValueRefused(f"{where}: {size} bytes of JSON are over the limit of {limit_bytes}; {_SMALLER}")
    if "\\u0000" in text:
        _refuse_text(value, walk, where)
    return text


def checked_text(value: object, where: str, longest: int) -> str:
    """The text as a plain str. `where` begins the message.

    Raises ValueRefused for what is no text, longer than `longest` characters, or cannot be stored.
    """
    if not issubclass(type(value), str):
        raise ValueRefused(f"{where}: must be text, not {shown(value)}")
    text = str.__str__(value)
    if len(text) > longest:
        raise ValueRefused(f"{where}: {len(text)} characters are over the limit of {longest}")
    if not text.isascii() or "\0" in text:
        _look_for_text(text, where)
    return text


def fresh(value: Any) -> Any:
    """A copy of plain JSON whose objects and arrays are nobody else's."""
    if type(value) is dict:
        return {
            key: fresh(item) if type(item) is dict or type(item) is list else item
            for key, item in value.items()
        }
    if type(value) is list:
        return [fresh(item) if type(item) is dict or type(item) is list else item for item in value]
    return value


_SMALLER = "store the data elsewhere and pass a reference to it"


class _Refused(Exception):
    """A value was refused; `keys` collects its path from the inside out while the stack unwinds."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.keys: list[str | int] = []


class _Walk:
    """One pass that turns a value into plain JSON types.

    `room` falls by what the text takes at least, so that a structure sharing its parts (a few objects
    that would print as terabytes) is refused before it is built.
    """

    __slots__ = ("limit", "max_depth", "room")

    def __init__(self, limit_bytes: int, max_depth: int) -> None:
        self.limit = limit_bytes
        self.room = limit_bytes
        self.max_depth = max_depth

    def plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            self.take(len(value))
            return value
        if kind is bool or value is None:
            return value
        if kind is int or kind is float:
            return _checked_number(value)
        if kind is dict:
            return self.object(value, depth)
        if kind is list or kind is tuple:
            return self.array(value, depth)
        return self.converted(value, depth)

    def take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise _Refused(f"this makes the whole larger than the limit of {self.limit} bytes; {_SMALLER}")

    def object(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        self.enter(5 * len(value), depth)  # "":1,
        plain: dict[str, Any] = {}
        key: Any = None
        try:
            for key, item in value.items():
                name = key if type(key) is str else _key(key)
                kind = type(item)
                if kind is bool or item is None:
                    plain[name] = item
                else:
                    plain[name] = self.plain(item, depth + 1)
        except _Refused as refused:
            if issubclass(type(key), str):  # else the key itself was refused
                refused.keys.append(key)
            raise
        if len(plain) < len(value):
            raise _Refused("two of its keys are written alike; JSON keeps one of them")
        self.take(sum(map(len, plain)))
        return plain

    def array(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        self.enter(2 * len(value), depth)  # 1,
        plain: list[Any] = []
        try:
            for item in value:
                plain.append(self.plain(item, depth + 1))  # noqa: PERF401 - the failing index is needed
        except _Refused as refused:
            refused.keys.append(len(plain))
            raise
        return plain

    def enter(self, size: int, depth: int) -> None:
        if depth >= self.max_depth:
            raise _Refused(f"nested deeper than {self.max_depth} levels; flatten it, or store it elsewhere")
        self.take(size)

    def converted(self, value: Any, depth: int) -> Any:
        try:
            inside = _opened(value) if isinstance(value, Enum) else _written(value)
        except (_Refused, RecursionError):
            raise
        except Exception as exc:  # a value may run code of its own when it is read
            raise _Refused(f"{_type_name(value)} could not be read: {shown(exc)}") from exc
        if type(inside) is str:
            self.take(len(inside))
            return inside
        return self.plain(inside, depth)


def _written(value: Any) -> Any:
    """The text of a kind that JSON carries as text, else what stands inside."""
    for kind, text in _TEXTS:
        if isinstance(value, kind):
            return text(value)
    return _opened(value)


def _opened(value: Any) -> Any:
    """What stands inside a value that is no JSON type itself, one layer down."""
    match value:
        case Enum():
            return value.value
        case BaseModel():
            return _dumped(value)
        case str() | int() | float():
            return _builtin(value)
        case Mapping():
            return dict(value)
        case list() | tuple():
            return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise _Refused(_not_json(value))


def _checked_number(value: float) -> int | float:
    if isinstance(value, int):
        if -_HUGE < value < _HUGE:
            return value
        raise _Refused(f"an integer of more than {_MAX_DIGITS} digits is refused; use a string")
    if math.isfinite(value):
        return value
    name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    raise _Refused(f"{name} is not JSON; use None or a string")


def _key(key: Any) -> str:
    if issubclass(type(key), str):
        return str.__str__(key.value if isinstance(key, Enum) else key)
    raise _Refused(f"the key {shown(key)} is not a string; JSON has only string keys")


def _builtin(value: str | float) -> str | int | float:
    """The plain value inside an instance of a subclass of str, int or float (numpy's float64 is one)."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    return float(value)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _Refused(f"{value} is not JSON; use None or a string")
    if abs(value.adjusted()) > _MAX_DIGITS:
        raise _Refused(f"{shown(value)} is out of range (exponent {value.adjusted()}); use a string")
    return str(value)


def _datetime(value: datetime) -> str:
    if value.utcoffset() is None:
        raise _Refused(f"the datetime {value.isoformat()} has no time zone; give it one, e.g. tzinfo=UTC")
    return value.isoformat()


_TEXTS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (Decimal, _decimal),
    (datetime, _datetime),
    (date, date.isoformat),
    (time, time.isoformat),
    (UUID, str),
)
"""Kinds that JSON carries as text. A datetime is a date too: it must come first."""


def _dumped(value: BaseModel) -> Any:
    try:
        return value.model_dump(mode="python", by_alias=True, warnings=False)
    except Exception as exc:
        raise _Refused(f"{type(value).__name__} could not be dumped: {shown(exc)}") from exc


def _not_json(value: Any) -> str:
    kind = _type_name(value)
    match value:
        case set() | frozenset():
            advice = "it has no order; use sorted(...) or a list"
        case bytes() | bytearray() | memoryview():
            advice = "decode it, or encode it as base64 text"
        case type():
            return f"the class {shown(value)} is not JSON; did you mean an instance of it?"
        case _ if hasattr(type(value), "__await__"):
            advice = "it was not awaited"
        case _:
            advice = "return plain data, a dataclass or a pydantic model"
    return f"{kind} is not JSON; {advice}"


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _refuse_text(value: object, walk: _Walk, where: str) -> None:
    """Find the string that the text as a whole gave away; an escaped backslash only looks like a NUL."""
    walk.room = walk.limit
    _look_for_text(walk.plain(value, 0), where)


def _look_for_text(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _look_for_text(key, f"{path}: the key {shown(key)}")
            _look_for_text(item, _path(path, [key]))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _look_for_text(item, f"{path}[{index}]")
    elif isinstance(value, str):
        if "\0" in value:
            raise ValueRefused(
                f"{path}: a string with a NUL character is refused; PostgreSQL has no such text"
            )
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueRefused(
                f"{path}: a string with half a surrogate pair is refused; it is not Unicode text"
            )


def _path(where: str, keys: list[str | int]) -> str:
    """`keys` come innermost first."""
    parts = [where]
    for key in reversed(keys):
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif key.isidentifier() and len(key) <= _LONG_KEY:
            parts.append(f".{key}")
        else:
            parts.append(f"[{shown(key)}]")
    return "".join(parts)
