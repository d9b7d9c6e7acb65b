"""Tasker beside Celery's canvas, in one run: `make bench-quick`, and with `--floor` what CI asks of it.

Both use the same Redis (embedded, as the PostgreSQL of Tasker, unless TASKER_DATABASE_URL and
TASKER_BROKER_URL are set), a worker of two prefork processes each, and handlers that do nothing. Rounds
alternate; the figures are medians. A task of Tasker ends at its `finished_at`; a canvas when its last task
runs: once without results, and once with Redis as Celery's result backend, since the results of a Tasker task
can be read too, and a join needs them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

from bench.figures import Figure, Kind, Taken, take
from bench.peers.canvas import CanvasPeer
from bench.peers.tasker import TaskerPeer
from bench.report import machine, print_table, reference
from bench.servers import servers
from bench.shapes import DIAMOND, FAN_500, LINEAR

ROUNDS = 3
QUICK = (
    Figure(Kind.LATENCY, LINEAR, 12),
    Figure(Kind.LATENCY, DIAMOND, 12),
    Figure(Kind.TOGETHER, LINEAR, 1000),
    Figure(Kind.TOGETHER, DIAMOND, 1000),
    Figure(Kind.BURST, LINEAR, 500),
    Figure(Kind.SECONDS, FAN_500, 1),
)

FLOORS = {
    Figure(Kind.LATENCY, LINEAR, 8): 0.25,
    Figure(Kind.TOGETHER, LINEAR, 100): 5.0,
    Figure(Kind.TOGETHER, DIAMOND, 100): 6.0,
    Figure(Kind.BURST, LINEAR, 100): 1.0,
    Figure(Kind.SECONDS, FAN_500, 1): 3.7,
}
"""The least ratios to the canvas: half of those of 2026-11-20 on two cores of a busy virtual machine."""


def main() -> None:
    """Print the figures; exit with 1 when a ratio is under its floor and `--floor` was given."""
    parser = argparse.ArgumentParser(prog="python -m bench.quick", description=__doc__.splitlines()[0])
    parser.add_argument("--floor", action="store_true", help="a shorter form that fails under a least ratio")
    floor = parser.parse_args().floor
    peers = (TaskerPeer(), CanvasPeer(results=False), CanvasPeer(results=True, joins_only=floor))
    with servers() as here:
        facts = machine()
        print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']:.1f}, {here.versions()}\n")
        found = take(tuple(FLOORS) if floor else QUICK, peers, here, rounds=ROUNDS, alone=False)
    print_table(found)
    if floor and (low := under_floor(found)):
        sys.exit("\n".join(low))


def under_floor(found: Sequence[Taken]) -> list[str]:
    """A sentence for each figure whose ratio to the canvas is too small."""
    low = []
    for taken in found:
        canvas = reference(taken)
        ratio = statistics.median(taken.ratios("Tasker", canvas)) if canvas else 0.0
        if ratio < FLOORS[taken.figure]:
            low.append(
                f"{taken.figure.name}: {ratio:.2f} times the canvas, which is under {FLOORS[taken.figure]}; "
                "profile what the change costs (docs/performance.md), or if it was this machine, run it again"
            )
    return low


if __name__ == "__main__":
    main()
