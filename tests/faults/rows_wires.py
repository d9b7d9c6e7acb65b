"""Rows: wires to PostgreSQL and Redis cut, held back, slowed down; servers that are away."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasker import Task
from tests.acceptance.effects import assert_settled, effects
from tests.acceptance.system import APPS, eventually
from tests.faults.matrix import row
from tests.faults.proxy import Cut
from tests.faults.stand import Stand

AWAY_SECONDS = 3.0
"""Longer than the silence after which a worker is taken for dead here; the slow form is 60 s."""

LONGER_THAN_ALL_PUBLICATIONS = 0.1 * (1 + 2 + 4 + 8 + 16 + 32) + 3
"""Seconds, with a grace of 0.1 s between a step's publication and the first that is in vain."""


def assert_once(stand: Stand, tasks: list[Task]) -> None:
    """Every step had its effect exactly once: no handler ran again for what happened."""
    assert_settled(stand, tasks)
    assert set(effects(stand).values()) == {1}


def no_worker_blamed(stand: Stand) -> None:
    """Nobody was taken for dead, and no step was charged for anything."""
    assert "silent" not in stand.stopped()
    assert stand.losses() == 0


@row(
    "3",
    "submit with its commit unknown",
    how="wire cut before the commit, then after it and before the reply",
    expected="the call is repeated by itself and makes one task",
)
def _(stand: Stand) -> None:
    with stand.running(), stand.client() as client:
        tasks = []
        for where in (Cut.UNCOMMITTED, Cut.AFTER):
            planned = stand.database.plan("tasker.submit_tasks", where)
            tasks.append(client.submit("ledger/fan"))
            planned.wait()
        assert stand.one("select count(*) from tasker.tasks") == 2
        assert_once(stand, tasks)


def cut_in_a_worker(function: str, where: Cut) -> Callable[[Stand], None]:
    """Cut the wire at a call of `function`, somewhere in the first ones; twice."""

    def run(stand: Stand) -> None:
        with stand.running():
            planned = [stand.database.plan(function, where, stand.random.randint(1, 4)) for _ in range(2)]
            tasks = stand.fans()
            for each in planned:
                each.wait()
            assert_once(stand, tasks)
            no_worker_blamed(stand)

    return run


CUTS = {
    "23": ("reply of a finish lost, with steps kept", "tasker.finish_steps", Cut.AFTER, True),
    "22c": ("finish cut off before its commit", "tasker.finish_steps", Cut.UNCOMMITTED, False),
    "23c": ("finish that never arrives", "tasker.finish_steps", Cut.BEFORE, False),
    "18d": ("reply of a claim lost", "tasker.claim_steps", Cut.AFTER, False),
    "18e": ("claim cut off before its commit", "tasker.claim_steps", Cut.UNCOMMITTED, False),
}
for number, (fault, function, where, quick) in CUTS.items():
    row(
        number,
        fault,
        how=f"wire cut: {where.value}",
        expected="repeated under the same claim; no handler runs twice",
        quick=quick,
    )(cut_in_a_worker(function, where))


FAIL_TWICE = """
    create sequence trouble;
    create function trouble() returns trigger language plpgsql as $$
    begin
        if new.outcome = 'complete' and nextval('trouble') <= 2 then
            raise sqlstate '{state}' using message = 'on purpose';
        end if;
        return new;
    end $$;
    create trigger trouble before update on tasker.step_attempts for each row execute function trouble()
"""

for number, fault, state in (
    ("22", "finish rolled back by a deadlock", "40P01"),
    ("22b", "finish rolled back as not serialisable", "40001"),
    ("41", "finish ended by a lock timeout", "55P03"),
    ("41b", "finish ended by a statement timeout", "57014"),
):

    def fail_twice(stand: Stand, state: str = state) -> None:
        stand.execute(FAIL_TWICE.format(state=state))
        with stand.running():
            assert_once(stand, stand.fans())
            assert stand.one("select last_value from trouble") > 2

    row(number, fault, how=f"a trigger raises {state} twice", expected="repeated; no handler runs twice")(
        fail_twice
    )


@row(
    "32",
    "database away",
    how="every connection closed and refused for longer than a worker may be silent, while steps run",
    expected="outcomes are held and recorded; nobody is taken for dead, no handler runs twice",
)
def _(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans()
        stand.await_effects(3)
        with stand.database.away():
            time.sleep(AWAY_SECONDS)
        assert_once(stand, tasks)
        no_worker_blamed(stand)


@row(
    "33", "backends terminated at random", how="pg_terminate_backend, 20 times", expected="calls are repeated"
)
def _(stand: Stand) -> None:
    query = """
        select pid from pg_stat_activity
        where datname = current_database() and application_name like 'tasker%%' order by backend_start
    """
    with stand.running():
        tasks = stand.fans(20)
        for _ in range(20):
            backends = [pid for (pid,) in stand.rows(query)]
            stand.one("select pg_terminate_backend(%s)", stand.random.choice(backends))
            time.sleep(0.05)
        assert_once(stand, tasks)
        no_worker_blamed(stand)


@row(
    "35",
    "slow database",
    how="every chunk delayed by 0.2 s in both directions",
    expected="slow, and nobody is taken for dead",
)
def _(stand: Stand) -> None:
    with stand.running():
        stand.database.latency_seconds = 0.2
        assert_once(stand, stand.fans(2))
        no_worker_blamed(stand)


@row(
    "34",
    "worker that alone cannot reach the database",
    how="its wire held back until its steps were taken back, then healed",
    expected="its steps run elsewhere, what it reports late is refused, and it goes on",
)
def _(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans()
        stand.await_effects(3)
        stand.database.blackhole()
        straight = {"TASKER_DATABASE_URL": stand.database_url}
        with stand.running(f"{APPS}.ledger", "--concurrency", "2", **straight):
            eventually(lambda: "silent" in stand.stopped(), "the one cut off is taken for dead")
            assert_settled(stand, tasks)
            stand.database.heal()
        assert_settled(stand, [*tasks, *stand.fans(2)])


@row(
    "7",
    "broker away at publish",
    how="connections refused for 3 s",
    expected="submit still works; all is sent later",
)
def _(stand: Stand) -> None:
    with stand.running(), stand.client() as client:
        with stand.broker.away():
            began = time.monotonic()
            tasks = client.submit_many([("ledger/fan", None)] * 4)
            assert time.monotonic() - began < 1, "submit does not wait for the broker"
            time.sleep(AWAY_SECONDS)
        assert_once(stand, tasks)


@row(
    "8",
    "publish that hangs",
    how="the broker takes everything and answers nothing for 3 s",
    expected="submit does not wait; all is sent later",
)
def _(stand: Stand) -> None:
    with stand.running(), stand.client() as client:
        tasks = [client.submit("ledger/fan")]
        stand.await_effects(1)
        stand.broker.blackhole()
        began = time.monotonic()
        tasks.append(client.submit("ledger/fan"))
        assert time.monotonic() - began < 1, "submit does not wait for the broker"
        time.sleep(AWAY_SECONDS)
        stand.broker.heal()
        assert_once(stand, tasks)


@row("8b", "publish with its reply lost", how="wire cut after LPUSH", expected="a doubled message at most")
def _(stand: Stand) -> None:
    with stand.running():
        planned = stand.broker.plan("LPUSH", Cut.AFTER)
        tasks = stand.fans()
        planned.wait()
        assert_once(stand, tasks)


@row(
    "9",
    "message lost on its way to the worker",
    how="the reply of a BRPOP that took a message swallowed, the wire cut",
    expected="the message is sent again",
    quick=True,
)
def _(stand: Stand) -> None:
    with stand.running():
        planned = stand.broker.plan("BRPOP", Cut.AFTER)
        tasks = stand.fans(2)
        planned.wait()
        assert_once(stand, tasks)


@row(
    "58",
    "consumer that silently stopped",
    how="what the worker waits on is held back for good; new connections work",
    expected="the worker connects anew by itself and goes on",
)
def _(stand: Stand) -> None:
    with stand.running():
        assert_once(stand, stand.fans(1))
        planned = stand.broker.plan("BRPOP", Cut.SILENCE)
        tasks = stand.fans(2)
        planned.wait()
        eventually(lambda: all(task.refresh().state == "complete" for task in tasks), "all settle", 120)
        assert_once(stand, tasks)


@row(
    "8l",
    "broker away for longer than five publications wait",
    how="the wire of every process to Redis cut until five publications would have been in vain",
    expected="what could not be sent is not counted, and no step is parked; then all goes on",
)
def _(stand: Stand) -> None:
    quick = {"TASKER_LOST_MESSAGE_SECONDS": "0.1"}
    with stand.running(**quick) as worker:
        assert_settled(stand, stand.fans(1))
        with stand.broker.away():
            tasks = stand.fans(2)
            heard = f"select free = 0 from tasker.workers where pid = {worker.pid} and kind = 'main'"
            eventually(lambda: stand.one(heard), "the worker says that it takes no messages")
            time.sleep(LONGER_THAN_ALL_PUBLICATIONS)  # what must not happen is given the time to
            query = "select count(*) from tasker.steps where state = 'error' or republished > 1"
            assert stand.one(query) == 0  # one may have been counted before the processes knew
        assert_once(stand, tasks)
