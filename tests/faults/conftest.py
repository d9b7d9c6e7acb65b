"""The system that a row breaks, and the table that `make faults` ends with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rows import Absent, in_order
from tests.faults.stand import Stand

SEED = os.environ.get("SEED")


@pytest.fixture
def stand(database_url: str, tmp_path: Path) -> Iterator[Stand]:
    with Stand(database_url, tmp_path, int(SEED or 1)) as stand:
        yield stand


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each row, when a seed was asked for."""
    results = {
        report.nodeid: (outcome, report.duration)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.when == "call" and "test_matrix.py" in report.nodeid
    }
    if SEED is None or not results:
        return
    terminalreporter.section(f"faults, seed {SEED}")
    for each in in_order():
        if isinstance(each, Absent):
            terminalreporter.line(f"{each.number:>4} absent          {each.fault}: {each.reason}")
            continue
        found = next((result for node, result in results.items() if f"[{each.name}]" in node), None)
        told = f"{found[0]} {found[1]:5.1f} s" if found else "not run       "
        terminalreporter.line(f"{each.number:>4} {told}  {each.fault} ({each.how}): {each.expected}")
