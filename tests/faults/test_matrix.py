"""Every row of the matrix, against real processes; `make faults` runs them all and prints a line for each."""

from __future__ import annotations

import pytest

from tests.faults import page
from tests.faults.rows import Absent, Row, in_order
from tests.faults.stand import Stand


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=() if row.quick else pytest.mark.slow)
        for row in in_order()
        if not isinstance(row, Absent)
    ],
)
def test_a_fault_loses_nothing(row: Row, stand: Stand) -> None:
    row.run(stand)
    assert stand.violations() == []


def test_no_two_rows_have_one_number() -> None:
    numbers = [row.number for row in in_order()]
    assert sorted(set(numbers)) == sorted(numbers)


def test_the_page_shows_the_matrix_as_it_is() -> None:
    text = page.PAGE.read_text()
    assert page.drawn(text) == text, "draw it anew with .venv/bin/python -m tests.faults.page"
