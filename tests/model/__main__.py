"""Explores the model and reports; `make model`.

Exits with 1 when a state breaks a rule or has no way out, and when a broken rule goes unnoticed. With
`--traces`, what happens under each broken rule is told step by step; with `--small`, one fault at a time.
"""

from __future__ import annotations

import sys

from tests.model.cases import BROKEN, CASES, SMALL_CASES
from tests.model.explore import Explored, explore


def main(arguments: list[str]) -> int:
    """Explore all cases; returns the exit code."""
    bad = False
    print(f"{'':50} {'states':>9} {'transitions':>12} {'seconds':>8}")
    explored = []
    for case in SMALL_CASES if "--small" in arguments else CASES:
        explored.append(found := explore(case))
        report(case.name, found)
        if found.wrong:
            bad = True
            print(*found.trace, sep="\n  ")
    report("all", *explored)

    print("\nBroken rules, and what is noticed:")
    for case in BROKEN:
        found = explore(case)
        report(f"without {case.without}", found)
        print(f"    {case.name}: {found.wrong or 'NOT NOTICED'}")
        bad = bad or not found.wrong
        if "--traces" in arguments:
            print(*("", *found.trace), sep="\n      ")
    print(f"\n{len(BROKEN)} rules are broken on purpose" + ("." if bad else ", and each is noticed."))
    return int(bad)


def report(name: str, *found: Explored) -> None:
    """A line of figures."""
    states, transitions = sum(it.states for it in found), sum(it.transitions for it in found)
    print(f"{name:50} {states:9,} {transitions:12,} {sum(it.seconds for it in found):8.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
