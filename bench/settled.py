"""History: settled two-step tasks by COPY, as the engine would have left them.

The engine itself makes one task of each kind, whose rows are the pattern of all others of the kind: whatever
a later version writes, the history has it too.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from tests.sql.actions import cancel
from tests.sql.protocol import keep, published, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from tests.sql.protocol import Connection, Protocol

BATCH = 10_000
SPAN = timedelta(days=30)
"""The time over which the tasks are spread; the last one ended just now."""

TASKS_OF_A_WORKER = 100
STOPPED_WORKERS: LiteralString = """
    insert into tasker.workers (instance, kind, host, pid, queues, handlers, started_at, beats, beat_at,
        stopped_at, stopped_because)
    select gen_random_uuid(), kind, host, pid, queues, handlers, started_at, beats, beat_at, beat_at,
        'shutdown'
    from tasker.workers, generate_series(1, %s)
    where id = %s"""
GROWN_PERCENT = 10
"""Of a page: what its rows have grown by once their tasks are settled."""
NULL = "\\N"
TABLES = {
    "tasks": "id",
    "steps": "task_id",
    "step_edges": "parent_id",
    "step_attempts": "step_id",
    "transitions": "task_id",
    "dead_letters": "task_id",
}
"""Where the history lies, by the column that leads to a task or a step, in the order of the foreign keys."""
TASK_IDS = {"tasks.id", "tasks.correlation_id", *(f"{table}.task_id" for table in TABLES)}
STEP_IDS = {
    "steps.id",
    *(f"{table}.{column}_id" for table in TABLES for column in ("step", "parent", "child")),
}
ROW_IDS = {"transitions": "seq", "dead_letters": "id"}


def complete(own: Protocol, task: UUID, root: int) -> None:
    """One worker runs both steps: it keeps the second."""
    won = own.claim(root)
    while won.ids:
        won = own.finish(won.complete({"ok": True}), keep=keep())
    assert own.task(task)["state"] == "complete"


def complete_late(own: Protocol, task: UUID, root: int) -> None:
    """The first attempt of the first step fails."""
    own.finish(own.claim(root).fail(message="not yet", retry_after_ms=0))
    own.due()
    complete(own, task, root)


def fail(own: Protocol, task: UUID, root: int) -> None:
    """The first step fails for good."""
    own.finish(own.claim(root).fail(message="no", permanent=True))
    assert own.task(task)["state"] == "error"


def interrupt(own: Protocol, task: UUID, root: int) -> None:
    """An operator cancels it while its first step runs."""
    own.claim(root)
    cancel(own, task)
    assert own.task(task)["state"] == "cancelled"


PERCENT: Mapping[Callable[[Protocol, UUID, int], None], int] = {
    complete: 97,
    complete_late: 1,
    fail: 1,
    interrupt: 1,
}


def add_history(own: Protocol, tasks: int, *, seed: int = 1) -> None:
    """Fill the database of a prepared session with so many tasks, and let VACUUM and ANALYZE see them.

    Nobody else may write to it meanwhile.
    """
    lots = random.Random(seed)  # noqa: S311 - the same history for the same seed
    own.connection.execute("set timezone = 'UTC'")
    with _fuller_pages(own):
        _copy_history(own, tasks, lots)
        own.connection.execute(STOPPED_WORKERS, [tasks // TASKS_OF_A_WORKER, own.worker])
    own.connection.execute("vacuum (analyze)")


@contextmanager
def _fuller_pages(own: Protocol) -> Iterator[None]:
    """Rows grow after they were inserted, beyond the fill factor of their pages, which then take no others.

    COPY would leave gaps that new rows fit into: the work at hand would lie on as many pages as it has rows.
    """
    tables = own.rows(
        "select relname as name, substring(reloptions::text from 'fillfactor=(\\d+)') as given from pg_class"
        " where relname = any (%s) and relnamespace = 'tasker'::regnamespace",
        [list(TABLES)],
    )
    factors = {table["name"]: int(table["given"]) for table in tables if table["given"]}
    for table, factor in factors.items():
        own.connection.execute(f"alter table tasker.{table} set (fillfactor = {factor + GROWN_PERCENT})")
    yield
    for table, factor in factors.items():
        own.connection.execute(f"alter table tasker.{table} set (fillfactor = {factor})")


def _copy_history(own: Protocol, tasks: int, lots: random.Random) -> None:
    kinds = [kind for make, percent in PERCENT.items() for kind in [_pattern(own, make)] * percent]
    lots.shuffle(kinds)
    kind = cycle(kinds)
    ids = _Ids(own)
    began = datetime.now(UTC) - SPAN
    for start in range(0, tasks, BATCH):
        rows: dict[str, list[str]] = {table: [] for table in TABLES}
        for number in range(start, min(start + BATCH, tasks)):
            pattern, at = next(kind), began + SPAN * (number / tasks)
            places = ids.draw(pattern) | _identity(at, number, lots)
            for table, text in pattern.rows.items():
                rows[table].append(text % places)
        with own.connection.transaction(), own.connection.cursor() as cursor:
            for table, lines in rows.items():
                with cursor.copy(sql.SQL("copy tasker.{} from stdin").format(sql.Identifier(table))) as copy:
                    copy.write("".join(lines))
    ids.hand_back(own.connection)


@dataclass(frozen=True)
class Pattern:
    """The rows of a task by table, as COPY reads them, with places for what differs from task to task."""

    rows: dict[str, str]
    steps: int
    numbered: dict[str, int]


class _Ids:
    """The next ids of steps and of rows that are numbered."""

    def __init__(self, own: Protocol) -> None:
        self._columns = {"steps": "id", **ROW_IDS}
        self._next = {table: _next_id(own, table, column) for table, column in self._columns.items()}

    def draw(self, pattern: Pattern) -> dict[str, object]:
        """What stands in the places for ids in one more copy of the pattern."""
        drawn: dict[str, object] = {}
        for table, count in {"steps": pattern.steps, **pattern.numbered}.items():
            first = self._next[table]
            drawn |= {f"{table}{place}": first + place for place in range(count)}
            self._next[table] = first + count
        return drawn

    def hand_back(self, connection: Connection) -> None:
        """Let the sequences go on behind the ids that were drawn."""
        for table, number in self._next.items():
            query = "select setval(pg_get_serial_sequence(%s, %s), %s)"
            connection.execute(query, [f"tasker.{table}", self._columns[table], number])


def _next_id(own: Protocol, table: str, column: str) -> int:
    query = "select nextval(pg_get_serial_sequence(%s, %s)) as id"
    return int(own.row(query, [f"tasker.{table}", column])["id"])


def _identity(at: datetime, number: int, lots: random.Random) -> dict[str, object]:
    """A task id of version 7, the beginning of its claim ids, and the second at which it was created."""
    milliseconds = int(1000 * at.timestamp())
    high, low = divmod(milliseconds, 1 << 16)
    drawn = lots.getrandbits(26)
    return {
        "task": f"{high:08x}-{low:04x}-7{drawn & 0xFFF:03x}-{0x8000 | drawn >> 12:04x}-{number:012x}",
        "claim": f"{number:08x}",
        "second": f"{at:%Y-%m-%d %H:%M:%S}",
    }


def _pattern(own: Protocol, make: Callable[[Protocol, UUID, int], None]) -> Pattern:
    (root,) = published(own.submit_all([request("chain")]))
    task = own.step(root)["task_id"]
    make(own, task, root)
    steps = sorted(own.steps(task).values())
    rows = {table: _lines(own, table, task, steps) for table in TABLES}
    numbered = {table: len(rows[table]) for table in ROW_IDS}
    return Pattern({table: "".join(lines) for table, lines in rows.items() if lines}, len(steps), numbered)


def _lines(own: Protocol, table: str, task: UUID, steps: list[int]) -> list[str]:
    by = TABLES[table]
    wanted = steps if f"{table}.{by}" in STEP_IDS else [task]
    query = sql.SQL("copy (select * from tasker.{} where {} = any ({}) order by 1, 2) to stdout").format(
        sql.Identifier(table), sql.Identifier(by), sql.Literal(wanted)
    )
    described = own.rows(
        "select attname, atttypid = 'timestamptz'::regtype as is_time from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [f"tasker.{table}"],
    )
    began = own.task(task)["created_at"]
    with own.connection.cursor() as cursor, cursor.copy(query) as copy:
        text = b"".join(bytes(block) for block in copy).decode()

    def place(row: int, column: str, value: str, *, is_time: bool) -> str:
        name, found = f"{table}.{column}", value.replace("%", "%%")
        if value == NULL:
            return found
        if column == ROW_IDS.get(table):
            found = f"%({table}{row})d"
        elif name in TASK_IDS:
            found = "%(task)s"
        elif name in STEP_IDS:
            found = f"%(steps{steps.index(int(value))})d"
        elif column == "claim_id":
            found = f"%(claim)s{value[8:]}"
        elif is_time:
            passed = (datetime.fromisoformat(value) - began) // timedelta(microseconds=1)
            found = f"%(second)s.{min(passed, 999_999):06d}+00"
        return found

    return [
        "\t".join(
            place(row, column["attname"], value, is_time=column["is_time"])
            for column, value in zip(described, line.split("\t"), strict=True)
        )
        + "\n"
        for row, line in enumerate(text.splitlines())
    ]
