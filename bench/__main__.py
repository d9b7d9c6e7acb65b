"""Tasker beside Celery's canvas and its peers, in one run: `make bench`.

The same shapes on the same PostgreSQL and Redis, in rounds, one side at work at a time; every side's results
are checked. Prints a table, and leaves the figures as JSON and as a plot in bench/results. `--short` is a
look whether it works, not a measurement.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.bare import bare
from bench.figures import Figure, Kind, take
from bench.own import own_figures
from bench.peers.known import PACKAGES, sides
from bench.plot import draw
from bench.report import as_json, machine, package_versions, print_table, shown
from bench.servers import servers
from bench.shapes import DIAMOND, FAN_500, FAN_10000, LINEAR, LINEAR_1_KB, LINEAR_5_MS, TREE

RESULTS = Path(__file__).parent / "results"

FIGURES = (
    *(Figure(Kind.LATENCY, shape, 20) for shape in (LINEAR, DIAMOND, TREE)),
    *(Figure(Kind.TOGETHER, shape, 1000) for shape in (LINEAR, DIAMOND, TREE)),
    Figure(Kind.BURST, LINEAR, 1000),
    Figure(Kind.SUBMITS, LINEAR, 1000),
    Figure(Kind.SECONDS, FAN_500, 1),
    Figure(Kind.SECONDS, FAN_10000, 1),
    *(Figure(Kind.LATENCY, shape, 20) for shape in (LINEAR_5_MS, LINEAR_1_KB)),
    *(Figure(Kind.TOGETHER, shape, 1000) for shape in (LINEAR_5_MS, LINEAR_1_KB)),
)
SHORT = (
    Figure(Kind.LATENCY, LINEAR, 5),
    Figure(Kind.LATENCY, DIAMOND, 5),
    Figure(Kind.TOGETHER, LINEAR, 100),
    Figure(Kind.TOGETHER, DIAMOND, 100),
    Figure(Kind.TOGETHER, TREE, 50),
    Figure(Kind.SUBMITS, LINEAR, 100),
    Figure(Kind.SECONDS, FAN_500, 1),
)


def main() -> None:
    """Measure all, print all, keep all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="few tasks of few shapes")
    parser.add_argument("--only", nargs="*", metavar="SIDE", help="these sides, by name, and no others")
    given = parser.parse_args()
    peers, absent = sides()
    if given.only is not None:
        peers = [peer for peer in peers if peer.name in given.only]
    facts = machine()
    with servers() as here:
        facts["versions"] = here.versions() | package_versions(PACKAGES)
        facts["settings"] = here.settings()
        others = {**bare(here), **own_figures(here)}
        found = take(SHORT if given.short else FIGURES, peers, here, rounds=given.rounds, alone=True)
    how = {peer.name: peer.how for peer in peers}
    written = {
        "machine": facts,
        "sides": how,
        "absent": absent,
        "others": others,
        "rounds": given.rounds,
        "figures": as_json(found),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")
    print_table(found)
    for what, figure in others.items():
        print(f"{what}: {shown(figure)}")
    print()
    for name, note in {**how, **absent, **facts}.items():
        print(f"{name}: {note}")
    print(f"\n{RESULTS / 'bench.json'}\n{draw(written, RESULTS / 'bench.svg')}")


if __name__ == "__main__":
    main()
