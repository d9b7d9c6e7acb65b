"""Where a step's time goes: `make bench-profile`.

Processor time a step, by kind of process, and time a step in each SQL function without those it calls
(`track_functions`, by the clock: on a busy machine it holds waiting too). Once for many chains together and
once for one at a time. Needs Linux, and a PostgreSQL role that may turn the counting on.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from bench.peers.tasker import TaskerPeer
from bench.report import machine
from bench.servers import Servers, servers
from bench.shapes import DIAMOND, LINEAR, Shape
from tests.processes import descendants

WARM_UP = 20
SHOWN = 0.005
"""Functions with a smaller part of the whole are left out."""


class Spent(NamedTuple):
    """Microseconds of processor time by kind of process; calls and microseconds by SQL function."""

    processors: Counter[str]
    calls: Counter[str]
    functions: Counter[str]

    def since(self, before: Spent) -> Spent:
        """What was spent after `before`."""
        return Spent(*(now - then for now, then in zip(self, before, strict=True)))


class Meter:
    """Reads what the processes of a system have spent so far."""

    def __init__(self, here: Servers) -> None:
        self._here = here
        self._connection = psycopg.connect(here.database_url, autocommit=True)
        with here.redis() as client:
            self._redis = int(client.info("server")["process_id"])

    def analyze(self) -> None:
        """What autovacuum does sooner or later; without it our own look at the results would cost most."""
        self._connection.execute("analyze")

    def read(self) -> Spent:
        """All of it since the processes began; counts of functions come a moment after their calls."""
        processors: Counter[str] = Counter()
        for kind, pid in self._processes():
            processors[kind] += microseconds(pid)
        found = self._connection.execute(
            "select funcname, sum(calls)::bigint, sum(self_time) * 1000 from pg_stat_user_functions"
            " where schemaname = 'tasker' group by funcname"
        ).fetchall()
        calls = Counter({name: count for name, count, _ in found})
        return Spent(processors, calls, Counter({name: round(spent) for name, _, spent in found}))

    def _processes(self) -> Iterable[tuple[str, int]]:
        own = self._connection.info.backend_pid
        yield "the submitting client", os.getpid()
        yield "Redis", self._redis
        for pid, kind in self._connection.execute("select pid, backend_type from pg_stat_activity"):
            if pid != own:
                yield "PostgreSQL, sessions" if kind == "client backend" else "PostgreSQL, the rest", pid
        for pid in descendants(os.getpid()):
            if b"bench.peers.tasker_app" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield "worker, main" if parent(pid) == os.getpid() else "worker, children", pid


def parent(pid: int) -> int:
    """The process that made this one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def microseconds(pid: int) -> int:
    """Processor time of all threads of a process that is there."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it ended meanwhile
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent // 1000


def measured(peer: TaskerPeer, meter: Meter, shape: Shape, *, times: int, tasks: int) -> None:
    """Run a shape and print what a step of it took."""
    peer.run(shape, max(WARM_UP, tasks))
    meter.analyze()
    before = meter.read()
    seconds = sum(peer.run(shape, tasks).ended for _ in range(times))
    spent = meter.read().since(before)
    steps = times * tasks * len(shape.parents)
    print(f"\n{tasks} {shape.name} at a time: {1e6 * seconds / steps:.0f} us a step by the clock")
    print("  processor time, us a step")
    for kind, total in spent.processors.most_common():
        print(f"    {total / steps:8.1f}  {kind}")
    whole = sum(spent.functions.values())
    print("  SQL functions without those they call, us a step (calls a step)")
    for name, total in spent.functions.most_common():
        if total > SHOWN * whole:
            print(f"    {total / steps:8.1f}  {name} ({spent.calls[name] / steps:.3f})")


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    facts = machine()
    with servers() as here:
        print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']:.1f}, {here.versions()}")
        count_functions(here)
        peer = TaskerPeer()
        peer.start(here)
        try:
            meter = Meter(here)
            measured(peer, meter, LINEAR, times=rounds, tasks=1000)
            measured(peer, meter, DIAMOND, times=rounds, tasks=1000)
            measured(peer, meter, LINEAR, times=50 * rounds, tasks=1)
        finally:
            peer.stop()


def count_functions(here: Servers) -> None:
    """Have sessions that begin from now on count their calls of functions."""
    with psycopg.connect(here.database_url, autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set track_functions = 'pl'").format(database))


if __name__ == "__main__":
    main()
