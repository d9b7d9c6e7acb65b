"""What each SQL function of the hot path and of the loops costs, by rows a call and by tasks in history.

Run it with `make bench-sql`; `HISTORY=1000000` for more history. For every call: milliseconds (median), pages
touched, and bytes of WAL, the last two by row. Full-page images are left out, since how many there are is a
matter of checkpoints, and so are commits; the figures of whole chains at the end have the latter.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import groupby, product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from bench.calls import HOT, LOOPS, Stage, stand
from bench.database import LINEAR, in_haste, own_server, prepare, session
from bench.settled import add_history
from tests.sql.protocol import keep, published, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.calls import Make
    from tests.sql.protocol import Protocol

ROWS = (1, 16, 64)
HISTORY = 100_000
LEAST_HISTORY = 1000
TIMED = 15
CHAINS = 20


class Cost(NamedTuple):
    """What a call took; pages and WAL by row."""

    call: str
    rows: int
    history: int
    milliseconds: float
    pages: float
    wal_bytes: float


def main() -> None:
    """Print the figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--history", type=int, default=HISTORY, help="the most tasks (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    with own_server() as new:
        costs, chain = measure(new("sql"), asked.history)
    print("\n\n".join(tables(costs)))
    print("\n".join(f"WAL of a step of linear-4, {what}: {size:.0f} bytes" for what, size in chain.items()))
    if asked.json:
        found = {"calls": [cost._asdict() for cost in costs], "wal_bytes_of_a_step": chain}
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(url: str, most: int) -> tuple[list[Cost], dict[str, float]]:
    """The costs of all calls beside 10³, 10⁴, … tasks; what a step of a chain writes."""
    own = session(url)
    prepare(own)
    stand(own)
    chain = {"with full-page images after a checkpoint": _wal_of_chain(own, 64, checkpoint=True)}
    own.connection.execute("alter system set full_page_writes = off")
    own.connection.execute("select pg_reload_conf()")
    chain |= {f"{rows} tasks a call": _wal_of_chain(own, rows) for rows in (64, 1)}
    costs: list[Cost] = []
    size, present = LEAST_HISTORY, 0
    while size <= most:
        with in_haste(own.connection):
            add_history(own, size - present)
        present = size
        for (name, make), rows in product((HOT | LOOPS).items(), ROWS):
            other = session(url)
            other.worker = own.worker  # one more that lives would be one more to look at
            costs.append(Cost(name, rows, size, *_cost(other, make, rows)))
            other.connection.close()
        size *= 10
    return costs, chain


def tables(costs: Sequence[Cost]) -> list[str]:
    """One table for each history, a line for each call."""
    found = []
    for history, of_history in groupby(costs, key=lambda cost: cost.history):
        head = f"beside {history} tasks; {', '.join(map(str, ROWS))} rows a call"
        lines = [f"{head:44}{'ms':^26}{'pages a row':^24}{'WAL bytes a row':^24}"]
        for call, of_call in groupby(of_history, key=lambda cost: cost.call):
            by_rows = list(of_call)
            lines.append(
                f"{call:44}"
                + "".join(f"{cost.milliseconds:8.2f}" for cost in by_rows)
                + "  "
                + "".join(f"{cost.pages:8.1f}" for cost in by_rows)
                + "".join(f"{cost.wal_bytes:8.0f}" for cost in by_rows)
            )
        found.append("\n".join(lines))
    return found


def _cost(own: Protocol, make: Make, rows: int) -> tuple[float, float, float]:
    """Milliseconds, and pages and bytes of WAL by row."""
    stage = Stage(own, rows)
    seconds = []
    for number in range(-1, TIMED):
        asked = make(stage)
        began = perf_counter()
        own.call(asked.function, *asked.arguments)
        if number >= 0:  # the first call of a session makes its plans
            seconds.append(perf_counter() - began)
        stage.clear()
    touched = stage.explain(make)
    return 1000 * statistics.median(seconds), touched.pages / rows, touched.wal_bytes / rows


def _wal_of_chain(own: Protocol, rows: int, *, checkpoint: bool = False) -> float:
    """Bytes of WAL by step, commits included, of chains of four from submit to their end."""
    written = []
    for _ in range(CHAINS):
        if checkpoint:
            own.connection.execute("checkpoint")
        before = _wal_position(own)
        run_chains(own, rows)
        written.append((_wal_position(own) - before) / (4 * rows))
    return statistics.median(written)


def run_chains(own: Protocol, rows: int) -> None:
    """Run so many chains of four side by side, each in one worker's hands."""
    won = own.claim(*published(own.submit_all([request(LINEAR) for _ in range(rows)])))
    while won.ids:
        won = own.finish(won.complete({"ok": True}), keep=keep(budget_ms=1000))


def _wal_position(own: Protocol) -> int:
    return int(own.row("select pg_current_wal_insert_lsn() - '0/0' as bytes")["bytes"])


if __name__ == "__main__":
    main()
