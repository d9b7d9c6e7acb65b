"""All rows of the matrix: importing a module of them enters them."""

from __future__ import annotations

from tests.faults import rows_handlers, rows_kills, rows_messages, rows_operators, rows_wires  # noqa: F401
from tests.faults.matrix import ABSENT, ROWS, Absent, Row, in_order

__all__ = ["ABSENT", "ROWS", "Absent", "Row", "in_order"]
