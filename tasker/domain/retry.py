"""The retry policy of a step: how often it may fail, and how long it waits after each failure.

SQL computes the delays that are used; this module is what authors write and what the tests compare
SQL with.
"""

from __future__ import annotations

import builtins
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasker.domain.errors import TemplateError
from tasker.domain.places import calling_place
from tasker.domain.wording import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

BACKOFFS = ("none", "constant", "linear", "exponential", "fibonacci")
JITTERS = ("none", "full", "equal")
MAX_ATTEMPTS = 100_000
MAX_SECONDS = 366 * 86_400

_BASE_SECONDS = 1.0
_MAX_SECONDS = 300.0
_CLASS_PATH = re.compile(r"(?!.{500})[\w<>]+(\.[\w<>]+)*")
_DOUBLINGS = 64
"""Past this many doublings even 1 ms is longer than MAX_SECONDS; keeps the power finite."""


def class_name(kind: type) -> str:
    """How an exception class is stored: `ValueError` for a built-in, else `module.Class`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def is_named(exc: BaseException, never_for: Collection[str]) -> bool:
    """Whether the stored names hold the class of `exc` or one it inherits from."""
    return bool(never_for) and any(class_name(kind) in never_for for kind in type(exc).__mro__)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed step runs again.

    `max_attempts` counts failures (1 = no retry; losses and releases do not count). The delay after
    the n-th failure is: none 0, constant base, linear base * n, exponential base * 2^(n-1), fibonacci
    base * fib(n), never above `max_seconds`; then jitter takes a random part of it: full anything
    from 0, equal at least a half. Times are kept to the millisecond. An exception of `never_for`
    (classes, or their names as strings; subclasses included) fails the step at once.

    Raises TemplateError listing every wrong value.
    """

    max_attempts: int = 3
    backoff: str = "exponential"
    base_seconds: float = _BASE_SECONDS
    max_seconds: float = _MAX_SECONDS
    jitter: str = "full"
    never_for: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        found = list(problems(_fields(self)))
        if found:
            place = calling_place()
            raise TemplateError([f"{place}: retry {field}: {message}" for field, message in found])
        names = (kind if isinstance(kind, str) else class_name(kind) for kind in self.never_for)
        object.__setattr__(self, "never_for", tuple(dict.fromkeys(names)))
        object.__setattr__(self, "base_seconds", round(self.base_seconds * 1000) / 1000)
        object.__setattr__(self, "max_seconds", round(self.max_seconds * 1000) / 1000)

    def delay_seconds(self, failures: int, fraction: float = 1.0) -> float:
        """The delay after the `failures`-th failure (from 1); `fraction` in [0, 1] is the jitter's draw."""
        if failures < 1:
            raise ValueError(f"failures counts from 1, not {failures}")
        match self.backoff:
            case "none":
                return 0.0
            case "constant":
                delay = self.base_seconds
            case "linear":
                delay = self.base_seconds * failures
            case "exponential":
                delay = math.ldexp(self.base_seconds, min(failures - 1, _DOUBLINGS))
            case _:
                delay = self.base_seconds * _fibonacci(failures)
        delay = min(delay, self.max_seconds)
        match self.jitter:
            case "full":
                return delay * fraction
            case "equal":
                return delay / 2 + delay / 2 * fraction
            case _:
                return float(delay)

    def to_json(self) -> dict[str, Any]:
        """The stored form; SQL reads it."""
        return {
            "max_attempts": self.max_attempts,
            "backoff": self.backoff,
            "base_ms": round(self.base_seconds * 1000),
            "max_ms": round(self.max_seconds * 1000),
            "jitter": self.jitter,
            "never_for": list(self.never_for),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Retry:
        """The policy that `to_json` wrote."""
        return cls(
            max_attempts=stored["max_attempts"],
            backoff=stored["backoff"],
            base_seconds=stored["base_ms"] / 1000,
            max_seconds=stored["max_ms"] / 1000,
            jitter=stored["jitter"],
            never_for=tuple(stored["never_for"]),
        )


def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it) for the keywords of a Retry; keywords left out are right."""
    attempts = values.get("max_attempts", 1)
    if type(attempts) is not int or not 1 <= attempts <= MAX_ATTEMPTS:
        yield (
            "max_attempts",
            f"must be a whole number from 1 (no retry) to {MAX_ATTEMPTS}, not {shown(attempts)}",
        )
    yield from _choice_problems(values, "backoff", BACKOFFS)
    yield from _choice_problems(values, "jitter", JITTERS)
    base = values.get("base_seconds", _BASE_SECONDS)
    ceiling = values.get("max_seconds", _MAX_SECONDS)
    wrong = [
        field
        for field, seconds in (("base_seconds", base), ("max_seconds", ceiling))
        if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_SECONDS
    ]
    for field in wrong:
        yield field, f"must be a number of seconds from 0 to {MAX_SECONDS}, not {shown(values[field])}"
    if not wrong and base > ceiling:
        yield "max_seconds", f"{ceiling:g} is below base_seconds {base:g}; raise it or lower base_seconds"
    yield from _never_for_problems(values.get("never_for", ()))


def _choice_problems(
    values: Mapping[str, Any], field: str, choices: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    chosen = values.get(field, choices[0])
    if chosen not in choices:
        yield field, f"{shown(chosen)} is none of {', '.join(choices)}{did_you_mean(str(chosen), choices)}"


def _never_for_problems(never_for: object) -> Iterator[tuple[str, str]]:
    if not isinstance(never_for, tuple | list):
        yield "never_for", f"must be a list of exception classes or their names, not {shown(never_for)}"
        return
    for kind in never_for:
        if isinstance(kind, type) and issubclass(kind, BaseException):
            continue
        if not isinstance(kind, str) or not _CLASS_PATH.fullmatch(kind):
            yield "never_for", f"{shown(kind)} is not an exception class, nor the name of one"
        elif "." not in kind and not _is_builtin_exception(kind):
            known = [name for name in vars(builtins) if _is_builtin_exception(name)]
            yield (
                "never_for",
                f'"{kind}" is not a built-in exception; write others as "module.Class"'
                + did_you_mean(kind, known),
            )


def _is_builtin_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _fields(retry: Retry) -> dict[str, Any]:
    return {name: getattr(retry, name) for name in Retry.__slots__}


def _fibonacci(n: int) -> int:
    current, following = 1, 1
    for _ in range(min(n, 2 * _DOUBLINGS) - 1):
        current, following = following, current + following
    return current
