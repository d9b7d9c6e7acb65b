"""Random faults under mixed load, for as long as you like: `make soak MINUTES=30 SEED=7`.

Ends with counts, and with exit code 1 when anything is odd: a task that is not settled or not as it had to
be, a step with more effects than attempts that began, a row that must not be, resources that did not come
back, a line in a log that only a defect writes.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg

from tasker.db.migrate import migrate
from tests.acceptance.effects import effects
from tests.conftest import FAKE_CLOCK, quickest_folder
from tests.faults.load import Load
from tests.faults.nemesis import HURTING, Nemesis, Postgres, Soaked
from tests.processes import descendants

SETTLE_SECONDS = 180
REST_SECONDS = 20
MEMORY_FACTOR = 1.5
MORE_FILES = 8
DEFECTS = re.compile(
    "a pass failed|a look failed|heartbeat failed|looking after the children failed|task states failed"
)
"""What is logged by code that goes on after something that must not happen."""


class Held(NamedTuple):
    """What a system holds of the machine."""

    connections: int
    processes: int
    files: int
    megabytes: float


def main() -> int:
    """Run the soak that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--every", type=float, default=4, help="seconds between two faults, on average")
    parser.add_argument("--only", default=None, help="one kind of fault, such as crash_database")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"soak of {given.minutes:g} minutes, seed {seed}, a fault every {given.every:g} s")
    odd = soak(given.minutes * 60, seed, given.every, given.only)
    print("\n".join(["ODD:", *odd]) if odd else "nothing odd")
    print(f"seed {seed}")
    return 1 if odd else 0


def soak(seconds: float, seed: int, every: float, only: str | None = None) -> list[str]:
    """Do it; what was odd."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=quickest_folder())))
        folder.chmod(0o711)
        postgres = Postgres(folder / "postgres")
        postgres.start()
        stack.callback(postgres.stop)
        migrate(postgres.url)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(FAKE_CLOCK.read_bytes())
            connection.execute("create table public.written (step text not null)")
        stand = stack.enter_context(Soaked(postgres.url, folder, seed, {}))
        chosen = [random.Random(seed + n) for n in range(3)]  # noqa: S311 - to be replayed
        nemesis = Nemesis(stand, postgres, chosen[0], only)
        stack.enter_context(nemesis.system())
        load = Load(stand, chosen[1])
        warm_up(load)
        before = held(stand, nemesis)
        torment(load, nemesis, seconds, every, chosen[2])
        nemesis.repair()
        load.finish(SETTLE_SECONDS)
        odd = load.odd + judged(stand)
        if not HURTING & set(nemesis.done):
            odd += run_twice(stand)
        odd += resources(stand, nemesis, before)
        told(stand, load, nemesis)
        return odd


def warm_up(load: Load) -> None:
    """Enough work that every process has all it will ever have."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        load.tend()
        time.sleep(0.05)
    load.finish(SETTLE_SECONDS)


def torment(load: Load, nemesis: Nemesis, seconds: float, every: float, rng: random.Random) -> None:
    """Load, and a fault every so often."""
    began = time.monotonic()
    next_at = began + every
    while (now := time.monotonic()) - began < seconds:
        load.tend()
        progress(now - began, load, nemesis)
        if now >= next_at:
            nemesis.strike()
            next_at = time.monotonic() + rng.uniform(0.5, 1.5) * every
        nemesis.repair()
        time.sleep(0.05)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def progress(seconds: float, load: Load, nemesis: Nemesis) -> None:
    """One line that is written over, on a terminal."""
    if sys.stderr.isatty():
        tasks, faults = f"{load.submitted} tasks, {load.open} open", sum(nemesis.done.values())
        line = f"{seconds:6.0f} s  {tasks}, {faults} faults, last: {nemesis.last}"
        print(f"\r{line:<100}", end="", file=sys.stderr, flush=True)


def judged(stand: Soaked) -> list[str]:
    """What is wrong with the database, the effects and the logs."""
    odd = [f"violation: {row}" for row in stand.rows("select * from tasker.invariant_violations()")]
    # a transactional step whose commit is unknown is given back after its handler has run
    began = """
        select s.task_id || '/' || s.name, s.state,
            count(*) filter (where a.outcome is distinct from 'released' or ts.transactional)
        from tasker.steps s
        join tasker.template_steps ts on ts.template_id = s.template_id and ts.ordinal = s.ordinal
        left join tasker.step_attempts a on a.step_id = s.id
        group by s.id
    """
    had = effects(stand)
    for step, state, attempts in stand.rows(began):
        if not (state == "complete") <= had[step] <= attempts:
            odd.append(f"{step} is {state} with {had[step]} effects in {attempts} attempts that began")
    odd += written_otherwise(stand)
    for log in sorted(stand.folder.glob("*.log")):
        odd += [f"{log.name}: {line[:500]}" for line in log.read_text().splitlines() if DEFECTS.search(line)]
    return odd


def written_otherwise(stand: Soaked) -> list[str]:
    """Transactional steps whose rows do not agree with their completion."""
    rows = """
        select s.task_id || '/' || s.name, s.state, count(w.step)
        from tasker.steps s
        join tasker.tasks t on t.id = s.task_id and t.name = 'writing'
        left join public.written w on w.step = s.task_id || '/' || s.name
        group by s.id
        having count(w.step) <> (s.state = 'complete')::integer
    """
    return [f"{step} is {state} and has written {count} rows" for step, state, count in stand.rows(rows)]


def run_twice(stand: Soaked) -> list[str]:
    """Steps whose handler ran more often than it failed and completed."""
    meant = """
        select s.task_id || '/' || s.name,
            count(*) filter (
                where a.outcome in ('complete', 'retry', 'error')
                    or a.outcome = 'released' and ts.transactional)
        from tasker.steps s
        join tasker.template_steps ts on ts.template_id = s.template_id and ts.ordinal = s.ordinal
        left join tasker.step_attempts a on a.step_id = s.id
        group by s.id
    """
    had = effects(stand)
    return [
        f"{step} had {had[step]} effects for {ended} attempts, though no worker died"
        for step, ended in stand.rows(meant)
        if had[step] > ended
    ]


def held(stand: Soaked, nemesis: Nemesis) -> Held:
    """What the system holds now; files and memory are those of the main process that holds most."""
    connections = "select count(*) from pg_stat_activity where application_name like 'tasker%%'"
    idle = "select count(*) from pg_stat_activity where state like 'idle in transaction%%'"
    assert stand.one(idle) == 0, "nobody is idle in a transaction"
    mains = [Path("/proc", str(worker.pid)) for worker in nemesis.mains]
    return Held(
        connections=stand.one(connections),
        processes=sum(1 + len(descendants(worker.pid)) for worker in nemesis.mains),
        files=max(len(list((main / "fd").iterdir())) for main in mains),
        megabytes=max(resident(main) for main in mains),
    )


def resident(process: Path) -> float:
    """Megabytes of memory of a process."""
    (line,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def resources(stand: Soaked, nemesis: Nemesis, before: Held) -> list[str]:
    """What did not come back within a while after the last fault."""
    until = time.monotonic() + REST_SECONDS
    while True:
        after = held(stand, nemesis)
        odd = [
            f"{name}: {was} before, {now} after"
            for name, was, now, most in (
                ("connections", before.connections, after.connections, before.connections + 4),
                ("processes", before.processes, after.processes, before.processes),
                ("files of a main", before.files, after.files, before.files + MORE_FILES),
                ("MB of a main", before.megabytes, after.megabytes, before.megabytes * MEMORY_FACTOR),
            )
            if now > most
        ]
        if not odd or time.monotonic() > until:
            print(f"before: {before}\nafter:  {after}")
            return odd
        time.sleep(0.5)


def told(stand: Soaked, load: Load, nemesis: Nemesis) -> None:
    """The counts."""
    print(f"tasks: {load.submitted}, settled: {load.settled}, {load.by_state}")
    print(f"faults: {sum(nemesis.done.values())}, {dict(sorted(nemesis.done.items()))}")
    outcomes = "select coalesce(outcome, 'open'), count(*) from tasker.step_attempts group by 1 order by 1"
    print(f"attempts: {dict(stand.rows(outcomes))}, effects: {sum(effects(stand).values())}")
    late = stand.one("select count(*) from tasker.step_attempts where late is not null")
    print(f"late outcomes refused: {late}, losses charged: {stand.losses()}")
    ended = """
        select coalesce(sum((error ->> 'type' like '%%StepTimeout')::integer), 0),
            (select count(*) from tasker.dead_letters where reason = 'deadline'),
            (select count(*) from tasker.transitions where to_state = 'paused'),
            (select count(*) from public.written)
        from tasker.step_attempts
    """
    ((timeouts, deadlines, pauses, written),) = stand.rows(ended)
    print(
        f"timeouts: {timeouts}, steps past a deadline: {deadlines}, pauses: {pauses}, rows written: {written}"
    )


if __name__ == "__main__":
    sys.exit(main())
