"""Write the matrix into docs/faults.md, drawn from its rows: `python -m tests.faults.page`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.rows import Absent, in_order

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
ROWS = re.compile(r"(<!-- rows -->\n).*?(<!-- end of rows -->)", re.DOTALL)


def drawn(text: str) -> str:
    """The page with its tables made anew."""
    lines = ["", "| | fault | how it is made | what must be true |", "|---|---|---|---|"]
    for each in in_order():
        if isinstance(each, Absent):
            lines.append(f"| {each.number} | {each.fault} | not here | {each.reason} |")
        else:
            lines.append(f"| {each.number} | {each.fault} | {each.how} | {each.expected} |")
    return ROWS.sub(lambda found: found[1] + "\n".join([*lines, "", ""]) + found[2], text)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
