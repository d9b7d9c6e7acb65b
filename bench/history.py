"""What a call costs beside much history, measured against the same call in an empty database.

Run it with `make bench-history`, `TASKS=50000` for less history. Both databases are on one server of their
own. They are asked in turn, call by call, so that whatever else the machine does meets both alike. Each holds
the same work at hand, and each call has something to do. The figures are ratios of medians and of 99th
percentiles. What is above the limits is measured again, since noise does not repeat itself; what is above
them each time is named, and the command fails.
Pages touched are shown beside, to tell the machine's noise from a plan that reads more.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from bench.calls import HOT, LOOPS, READS, UNCOUNTED, Stage, stand
from bench.database import in_haste, own_server, prepare, session
from bench.settled import add_history

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from uuid import UUID

    from bench.calls import Make
    from tests.sql.protocol import Connection, Protocol

TASKS = 1_000_000
ROUNDS = 500
P50_LIMIT = 1.1
P99_LIMIT = 1.5
WARM_UP = 20
AGAIN = 2
"""Times that what is above the limits is measured once more."""


class Beside(NamedTuple):
    """Seconds that one call took in the empty database and in the one with history, run by run."""

    empty: list[float]
    full: list[float]
    pages: list[int]
    """That the call touches here and there; of some calls not counted."""

    @property
    def p50(self) -> float:
        """The ratio of the medians."""
        return statistics.median(self.full) / statistics.median(self.empty)

    @property
    def p99(self) -> float:
        """The ratio of the 99th percentiles."""
        return percentile_99(self.full) / percentile_99(self.empty)


def percentile_99(seconds: Sequence[float]) -> float:
    """The time that one call in a hundred exceeds."""
    return statistics.quantiles(seconds, n=100)[98]


def measure(
    empty: Protocol, full: Protocol, rounds: int, names: Collection[str] | None = None
) -> dict[str, Beside]:
    """The times of every call, or of those named, in both databases."""
    makes = HOT | LOOPS | UNCOUNTED
    calls = {name: _prepared(make) for name, make in makes.items()}
    calls |= {name: _reading(read) for name, read in READS.items()}
    calls = {name: ready for name, ready in calls.items() if names is None or name in names}
    found = {name: Beside([], [], []) for name in calls}
    stages = (Stage(empty), Stage(full))
    for number in range(-WARM_UP, rounds):
        for name, ready in calls.items():
            runs = [ready(stage) for stage in stages]
            order = (0, 1) if number % 2 else (1, 0)
            taken = [0.0, 0.0]
            for which in order:
                began = perf_counter()
                runs[which]()
                taken[which] = perf_counter() - began
            for stage in stages:
                stage.clear()
            if number >= 0:
                found[name].empty.append(taken[0])
                found[name].full.append(taken[1])
    for name in found.keys() & makes.keys():
        found[name].pages.extend(stage.explain(makes[name]).pages for stage in stages)
    return found


def table(found: dict[str, Beside]) -> str:
    """The figures of every call, with a word on those above the limits."""
    columns = f"{'p50 empty':>10}{'full':>8}{'ratio':>7}{'p99 empty':>11}{'full':>8}{'ratio':>7}"
    lines = [f"{'milliseconds':26}{columns}{'pages empty':>13}{'full':>6}"]
    for name, times in found.items():
        p50, p99 = (
            f"{1000 * of(times.empty):{width}.3f}{1000 * of(times.full):8.3f}{ratio:7.2f}"
            for of, width, ratio in ((statistics.median, 10, times.p50), (percentile_99, 11, times.p99))
        )
        pages = "{:13}{:6}".format(*times.pages) if times.pages else " " * 19
        lines.append(f"{name:26}{p50}{p99}{pages}{'  too slow' if name in too_slow(found) else ''}")
    return "\n".join(lines)


def too_slow(found: dict[str, Beside]) -> list[str]:
    """The calls that history slows down more than it may."""
    return [name for name, times in found.items() if times.p50 > P50_LIMIT or times.p99 > P99_LIMIT]


def compare(new: Callable[[str], str], tasks: int, rounds: int) -> dict[str, Beside]:
    """Make two databases, fill one with so many tasks, and measure; `new` gives the URL of a database."""
    urls = new("empty"), new("full")
    for url, past in zip(urls, (0, tasks), strict=True):
        filling = session(url)
        prepare(filling)
        with in_haste(filling.connection):
            add_history(filling, past)
            stand(filling)
            filling.connection.execute("vacuum (analyze)")
        filling.connection.close()
    empty, full = (session(url) for url in urls)
    gc.disable()
    try:
        found = measure(empty, full, rounds)
        for _ in range(AGAIN):
            found |= measure(empty, full, rounds, too_slow(found))
        return found
    finally:
        gc.enable()
        for own in (empty, full):
            own.connection.close()


def main() -> None:
    """Print the table; ends with 1 when a call is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=TASKS, help="of history (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="calls of each kind (%(default)s)")
    asked = parser.parse_args()
    began = perf_counter()
    with own_server() as new:
        found = compare(new, asked.tasks, asked.rounds)
    print(f"beside {asked.tasks} settled tasks; {perf_counter() - began:.0f} s in all")
    print(table(found))
    slow = too_slow(found)
    if slow:
        sys.exit(f"above {P50_LIMIT} (p50) or {P99_LIMIT} (p99): {', '.join(slow)}")


def _prepared(make: Make) -> Callable[[Stage], Callable[[], object]]:
    def ready(stage: Stage) -> Callable[[], object]:
        asked = make(stage)
        return lambda: stage.own.call(asked.function, *asked.arguments)

    return ready


def _reading(read: Callable[[Connection, UUID], object]) -> Callable[[Stage], Callable[[], object]]:
    def ready(stage: Stage) -> Callable[[], object]:
        stage.submit()
        return lambda: read(stage.own.connection, stage.tasks[0])

    return ready


if __name__ == "__main__":
    main()
