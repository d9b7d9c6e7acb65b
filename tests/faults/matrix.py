"""The matrix: what may go wrong, how it is made to, and what must be true afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from tests.faults.stand import Stand

Run: TypeAlias = Callable[[Stand], None]


class Row(NamedTuple):
    """One fault. `quick` ones are part of every test run."""

    number: str
    fault: str
    how: str
    expected: str
    run: Run
    quick: bool

    @property
    def name(self) -> str:
        return f"{self.number} {self.fault}"


class Absent(NamedTuple):
    """A fault this build cannot have, or that another test shows."""

    number: str
    fault: str
    reason: str


ROWS: list[Row] = []

ABSENT = [
    Absent("42", "listening connection killed", "nothing listens: waiting and the loops poll"),
]


def row(number: str, fault: str, *, how: str, expected: str, quick: bool = False) -> Callable[[Run], Run]:
    """Enter the decorated function into the matrix; it injects the fault and asserts what is expected."""

    def enter(run: Run) -> Run:
        ROWS.append(Row(number, fault, how, expected, run, quick))
        return run

    return enter


def in_order() -> list[Row | Absent]:
    """All of them, by number."""
    return sorted([*ROWS, *ABSENT], key=lambda each: order(each.number))


def order(number: str) -> tuple[str, int, str]:
    """Rows by number, those of the design after the numbered ones."""
    letters = number.rstrip("0123456789") if number[0].isalpha() else ""
    digits = "".join(c for c in number.removeprefix(letters) if c.isdigit())
    return letters, int(digits), number
