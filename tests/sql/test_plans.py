"""The statements of the hot path cost the same beside much history, whatever the statistics say.

Cost is pages touched (shared buffers hit or read, planning inside the functions included), not time: it does
not depend on the machine, and a plan that walks a table or an index shows by hundreds of pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from time import monotonic, sleep
from typing import TypeAlias
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from bench.calls import LOOPS, Stage
from bench.database import LINEAR, prepare
from tasker.db.migrate import migrate
from tests.conftest import FAKE_CLOCK, fresh_postgres, servers_folder
from tests.sql.actions import OPERATOR, REASON
from tests.sql.protocol import QUEUE, Connection, Protocol, Won, keep, published, request

Pages: TypeAlias = dict[str, float]
"""Pages touched per row of each call."""

HISTORY = 25_000
"""Tasks in the history: 100 000 steps."""

BIG = 10_000
"""Steps of the template beside small ones."""

REPEATS = 3
"""The cheapest of so many calls counts: some split an index page or extend a file."""

GROWTH = 1.75
"""How much more a call may touch than in an empty database: indexes are two levels higher."""

BATCH = 1.75
"""How much more per row a batch may touch than a row by itself."""

FEW = 5
"""Pages more that a call may touch whatever it does."""

SCATTERED = 3
"""Pages more per row: tasks with ids drawn at random lie on pages of their own where there are many."""

RUNNING = 1500
"""Pages that hold what runs now, in tests without a vacuum."""

LINE = 200
"""Steps of a task in a line of held steps."""

QUEUES = 1_000

HALF_A_SECOND = 5
"""Steps of 100 ms that are published for the one slot there is."""

COUNTED_SECONDS = 10
"""A session tells of its updates about once a second, when it is asked something."""

ALONE = False
"""submit_tasks in a transaction of its own."""

TOLD = True
"""Every call also returns the moves it made."""


class Course:
    """Tasks of the chain go all their way, `rows` at a time; what each call costs is measured."""

    def __init__(self, session: Protocol, rows: int) -> None:
        self.session = session
        self.rows = rows
        self.cost: Pages = {}

    def run(self) -> Pages:
        """Submit, claim, release and claim again, then finish with keep to the end."""
        levels = self.submit()
        self.measure("publication", "publication", levels[0])
        released = self.claim(levels[0])
        self.measure("release", "release_steps", levels[0], released.claim_id, TOLD)
        won = self.claim(levels[0])
        for level, children in pairwise(levels):
            kept = uuid4()
            report, offer = Jsonb(won.complete({"from": level[0]})), Jsonb(keep(budget_ms=1000))
            self.measure("finish", "finish_steps", report, self.session.worker, kept, offer, TOLD)
            won = self.won(children, kept)
        self.measure(
            "settle", "finish_steps", Jsonb(won.complete()), self.session.worker, uuid4(), None, TOLD
        )
        return self.cost

    def disturb(self) -> Pages:
        """What operators and coordinators do to the same tasks."""
        first, second, _, _ = self.submit()
        by = (OPERATOR, REASON, TOLD)
        report = Jsonb(self.claim(first).fail(permanent=True))
        self.measure("fail", "finish_steps", report, self.session.worker, uuid4(), None, TOLD)
        self.measure("retry", "retry_steps", first, [], *by)
        found = self.session.rows("select distinct task_id from tasker.steps where id = any (%s)", [first])
        tasks = [row["task_id"] for row in found]
        self.measure("pause", "pause_tasks", tasks, *by)
        self.session.call("claim_steps", first, self.session.worker, uuid4(), TOLD)
        self.measure("resume", "resume_tasks", tasks, *by)
        self.measure("dispatch own", "dispatch_tasks", tasks, TOLD)
        self.claim(first)
        self.measure("resolve", "resolve_steps", first, None, *by)
        self.measure("skip", "skip_steps", second, *by)
        self.measure("cancel", "cancel_tasks", tasks, *by)
        return self.cost

    def pass_by(self) -> Pages:
        """What coordinators do, with work for them, and how somebody waits for tasks."""
        stage = Stage(self.session, self.rows)
        for name, make in LOOPS.items():
            asked = make(stage)
            self.measure(name, asked.function, *asked.arguments)
            stage.clear()
        won = stage.claim()
        report = Jsonb(won.complete())
        self.measure("publish next", "finish_steps", report, self.session.worker, uuid4(), None, TOLD)
        self.measure("wait", "task_states", stage.tasks)
        self.measure("ended", "ended_attempts", won.ids, [1] * len(won.ids))
        stage.clear()
        return self.cost

    def submit(self) -> list[list[int]]:
        """Submit tasks; the ids of their steps, level by level."""
        requests = [request(LINEAR) for _ in range(self.rows)]
        self.measure("submit", "submit_tasks", Jsonb(requests), ALONE, TOLD)
        found = self.session.rows(
            "select array_agg(id order by id) as ids from tasker.steps"
            " where task_id = any (%s) group by ordinal order by ordinal",
            [[UUID(str(asked["id"])) for asked in requests]],
        )
        return [row["ids"] for row in found]

    def claim(self, steps: list[int]) -> Won:
        claim_id = uuid4()
        self.measure("claim", "claim_steps", steps, self.session.worker, claim_id, TOLD)
        return self.won(steps, claim_id)

    def won(self, steps: list[int], claim_id: UUID) -> Won:
        won = Won({"steps": self.session.call("claimed", steps, claim_id)}, claim_id)
        assert won.ids == steps
        return won

    def measure(self, name: str, function: str, *arguments: object) -> None:
        cost = pages(self.session, function, *arguments) / self.rows
        self.cost[name] = max(cost, self.cost.get(name, 0))


def pages(session: Protocol, function: str, *arguments: object) -> int:
    """How many pages a call touches."""
    places = ", ".join(["%s"] * len(arguments))
    query = f"explain (analyze, buffers, timing off, format json) select tasker.{function}({places})"
    plan = session.row(query, arguments)["QUERY PLAN"][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def costs(session: Protocol) -> Pages:
    """Pages per row of every call, with 1 and with 64 rows."""
    found: Pages = {}
    for rows in (1, 64):
        for part in (Course.run, Course.disturb, Course.pass_by):
            part(Course(session, rows))  # the first calls of a session make its plans
            runs = [part(Course(session, rows)) for _ in range(REPEATS)]
            found |= {f"{call} of {rows}": min(run[call] for run in runs) for call in runs[0]}
    return found


def add_history(connection: Connection) -> None:
    """Fill the tables with complete tasks of the chain."""
    for statement in HISTORY_ROWS:
        connection.execute(statement)


HISTORY_ROWS = (
    f"""
    insert into tasker.tasks (id, template_id, namespace, name, state, priority, context, correlation_id,
        request_digest, created_at, finished_at, steps_total, steps_open, steps_active, steps_failed)
    select gen_random_uuid(), id, namespace, name, 'complete', 0, '{{}}', gen_random_uuid(), 'past',
        tasker.clock(), tasker.clock(), 4, 0, 0, 0
    from tasker.templates, generate_series(1, {HISTORY})
    where name = '{LINEAR}'""",
    """
    insert into tasker.steps (task_id, template_id, ordinal, name, queue, priority, state, parents_left,
        attempt, claim_id, worker_id, changed_at)
    select t.id, t.template_id, s.ordinal, s.name, s.queue, 0, 'complete', 0, 1, t.id, 1, t.created_at
    from tasker.tasks t join tasker.template_steps s on s.template_id = t.template_id
    where t.request_digest = 'past'
    order by t.id, s.ordinal""",
    """
    create temporary table past as
    select s.* from tasker.steps s join tasker.tasks t on t.id = s.task_id where t.request_digest = 'past'""",
    "insert into tasker.step_edges select id, id + 1 from past where ordinal < 3",
    """
    insert into tasker.step_attempts (step_id, attempt, claim_id, worker_id, claimed_at, started_at,
        finished_at, outcome, result)
    select id, 1, claim_id, 1, changed_at, changed_at, changed_at, 'complete', '{}' from past""",
    """
    insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
    select task_id, id, source, target, 1, changed_at
    from past, (values ('pending', 'enqueued'), ('enqueued', 'in_progress'), ('in_progress', 'complete'))
        move (source, target)""",
)


def keep_statistics(connection: Connection) -> None:
    """Nobody but the test analyses the tables."""
    tables = connection.execute("select tablename from pg_tables where schemaname = 'tasker'").fetchall()
    for (table,) in tables:
        connection.execute(f"alter table tasker.{table} set (autovacuum_enabled = off)")


def forget_statistics(connection: Connection) -> None:
    """As if no table had ever been analysed."""
    connection.execute(
        "delete from pg_statistic where starelid in ("
        " select oid from pg_class where relnamespace = 'tasker'::regnamespace)"
    )
    connection.execute(
        "update pg_class set relpages = 0, reltuples = -1, relallvisible = 0"
        " where relnamespace = 'tasker'::regnamespace and relkind in ('r', 'i')"
    )


def add_backlog(session: Protocol) -> None:
    """Thousands of steps are published, run elsewhere, or wait for a retry."""
    worker = session.register_worker()
    for number in range(120):
        reply = session.submit_all([request(LINEAR, deadline_ms=3_600_000) for _ in range(64)])
        if number % 3 > 0:
            won = session.claim(*published(reply), worker=worker)
        if number % 3 > 1:
            session.finish(won.fail(retry_after_ms=3_600_000), worker=worker)


def too_dear(found: Pages, empty: Pages) -> dict[str, tuple[float, float]]:
    """The calls that touch more than they may, with that limit."""
    limits = {}
    for call in found:
        name, rows = call.split(" of ")
        # these read all attempts that run now, or all that is published
        grown = (
            RUNNING
            if name in {"recover", "overdue", "dispatch"}
            else GROWTH * empty[call] + FEW / int(rows) + SCATTERED
        )
        limits[call] = min(grown, BATCH * found[f"{name} of 1"] + SCATTERED)
    return {call: (cost, limits[call]) for call, cost in found.items() if cost > limits[call]}


def another(early: Protocol, connection: Connection) -> Protocol:
    """A further session of the same worker: one more that lives would be one more to look at."""
    session = Protocol(connection)
    session.worker = early.worker
    return session


@pytest.fixture
def connect_alone() -> Iterator[Callable[[], Connection]]:
    """Opens connections to a cluster of its own, whatever servers the other tests are to use.

    Transactions elsewhere in a cluster keep old versions of rows from being cleared away, and it counts.
    """
    with servers_folder() as (folder, held), fresh_postgres(folder, held) as url, ExitStack() as stack:
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FAKE_CLOCK.read_bytes())
        yield lambda: stack.enter_context(psycopg.connect(url, autocommit=True))


def test_calls_cost_the_same_beside_much_history_whatever_the_statistics_say(
    connect_alone: Callable[[], Connection],
) -> None:
    early = Protocol(connect_alone())
    keep_statistics(early.connection)
    early.connection.execute("analyze")
    prepare(early)
    early.expect(work=0.1)
    empty = costs(early)
    full = {"empty": empty}
    add_history(early.connection)
    full["analysed when empty, plans made when empty"] = costs(early)
    full["analysed when empty"] = costs(another(early, connect_alone()))
    forget_statistics(early.connection)
    full["never analysed"] = costs(another(early, connect_alone()))
    early.connection.execute("analyze")
    full["analysed, plans made when empty"] = costs(early)
    full["analysed"] = costs(another(early, connect_alone()))
    add_backlog(early)
    full["analysed before a backlog"] = costs(another(early, connect_alone()))
    early.register("first > " + ", ".join(f"s{number}" for number in range(BIG)) + " > last", name="big")
    early.submit("big")
    early.connection.execute("analyze")
    full["analysed beside a big template"] = costs(another(early, connect_alone()))
    dear = {state: too_dear(found, empty) for state, found in full.items()}
    assert {state: calls for state, calls in dear.items() if calls} == {}


def test_a_dispatch_reads_no_more_of_a_long_line_than_it_may_publish(
    connect_alone: Callable[[], Connection],
) -> None:
    early = Protocol(connect_alone())
    keep_statistics(early.connection)
    early.connection.execute("analyze")
    early.register(", ".join(f"s{number}" for number in range(LINE)), name="line")
    early.expect(work=100)
    early.submit("line", joined=True)
    worker = early.worker
    short = dispatched(early, worker)
    long = {}
    for priority in range(100):
        early.submit("line", joined=True, priority=priority % 3 - 1)
    long["analysed when empty, plans made when empty"] = dispatched(early, worker)
    long["analysed when empty"] = dispatched(Protocol(connect_alone()), worker)
    forget_statistics(early.connection)
    long["never analysed"] = dispatched(Protocol(connect_alone()), worker)
    early.connection.execute("analyze")
    long["analysed"] = dispatched(Protocol(connect_alone()), worker)
    early.connection.execute(
        f"insert into tasker.queues (name) select 'q' || n from generate_series(1, {QUEUES}) n"
    )
    long["beside idle queues"] = dispatched(Protocol(connect_alone()), worker) - QUEUES * FEW
    limit = GROWTH * short + FEW
    assert {state: cost for state, cost in long.items() if cost > limit} == {}


def dispatched(session: Protocol, worker: int) -> int:
    """The fewest pages of a dispatch that publishes five held steps and looks at ten."""
    costs = []
    for _ in range(REPEATS):
        before = session.row("select dispatched from tasker.queues where name = %s", [QUEUE])["dispatched"]
        costs.append(pages(session, "dispatch_steps", 10, TOLD))
        after = session.row("select dispatched from tasker.queues where name = %s", [QUEUE])["dispatched"]
        assert after - before == HALF_A_SECOND
        found = session.rows("select id from tasker.steps where enqueued_at is not null")
        won = session.claim(*(row["id"] for row in found), worker=worker)
        session.finish(won.complete(), worker=worker)
    return min(costs)


def test_steps_that_their_parents_worker_keeps_are_updated_in_place(
    connect_alone: Callable[[], Connection],
) -> None:
    session = Protocol(connect_alone())
    keep_statistics(session.connection)
    prepare(session)
    session.expect(work=0.1)
    assert share_in_place(session) >= 0.95


def share_in_place(session: Protocol) -> float:
    """How many of the updates of steps touch no index while 1 000 chains run from their claimed root on."""
    batches = []
    for _ in range(16):
        reply = session.submit_all([request(LINEAR) for _ in range(64)])
        batches.append(session.claim(*published(reply)))
    claimed = 16 * 64
    before = updates(session, claimed)
    for won in batches:
        while won.ids:
            won = session.finish(won.complete({"ok": True}), keep=keep(budget_ms=1000))  # noqa: PLW2901
    after = updates(session, claimed + claimed * 7)
    all_, in_place = (later - earlier for later, earlier in zip(after, before, strict=True))
    assert all_ == claimed * 7  # a: complete; b, c and d: in progress, complete
    return in_place / all_


def updates(session: Protocol, expected: int) -> tuple[int, int]:
    """Updates of steps once so many are counted, which takes a second, and those that touched no index."""
    query = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'steps'"
    deadline = monotonic() + COUNTED_SECONDS
    while (row := session.row(query))["n_tup_upd"] < expected and monotonic() < deadline:
        sleep(0.01)
    return row["n_tup_upd"], row["n_tup_hot_upd"]
