"""Rows: templates, operators, rights and clocks of the database, and work of unusual shape."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psycopg
import pytest

from tasker import Task
from tasker.domain.errors import StateConflict
from tasker.orchestration import operate
from tests.acceptance.effects import assert_settled, assert_sound, effects
from tests.acceptance.system import ROOT, eventually
from tests.faults.matrix import row
from tests.faults.rows_handlers import MISBEHAVING
from tests.faults.rows_wires import assert_once
from tests.faults.stand import QUEUE, Stand

WIDE = "tests.faults.apps.wide"


@row(
    "25",
    "parents that finish at the same moment",
    how="60 joins of six parents, over four processes of two workers",
    expected="each join starts once",
)
def _(stand: Stand) -> None:
    with stand.running(), stand.running():
        tasks = stand.fans(60)
        assert_once(stand, tasks)
        assert stand.attempts(tasks)["complete"] == 480


@row(
    "26",
    "9 998 children, then as many parents",
    how="a task of 10 000 steps",
    expected="done, each step once",
)
def _(stand: Stand) -> None:
    with stand.running(WIDE):
        known = "select count(*) from tasker.handlers where name = 'wide/nothing'"
        assert stand.settled(stand.tasker.submit("wide/warm")) == "complete"
        eventually(
            lambda: stand.one(known), "it is known how long a step takes, so that many share a message"
        )
        task = stand.tasker.submit("wide/fan")
        eventually(lambda: task.refresh().state == "complete", "the task completes", 180)
        assert stand.attempts([task])["complete"] == 10_000


@row(
    "27",
    "template of 100 000 steps",
    how="declared in Python and registered",
    expected="refused by the limit; nothing is stored",
)
def _(stand: Stand) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        stand.register("tests.faults.apps.huge")
    assert b"100000 steps are over the limit of 10000" in refused.value.stderr
    assert stand.one("select count(*) from tasker.templates") == 0


BROKEN = {
    "a cycle": "[{name: a, handler: h, depends_on: [b]}, {name: b, handler: h, depends_on: [a]}]",
    "its own parent": "[{name: a, handler: h, depends_on: [a]}]",
    "a parent that is not there": "[{name: a, handler: h, depends_on: [nobody]}]",
    "two of a name": "[{name: a, handler: h}, {name: a, handler: h}]",
    "no steps": "[]",
}


@row(
    "28",
    "templates that cannot run",
    how="a cycle, a step that is its own parent, an unknown parent, two steps of a name, none",
    expected="refused, naming file and line; nothing is stored",
)
def _(stand: Stand) -> None:
    before = stand.one("select count(*) from tasker.templates")
    for steps in BROKEN.values():
        refused = validated(stand, f"namespace: broken\nname: one\nversion: 1.0.0\nsteps: {steps}\n")
        assert "template.yaml:" in refused
    assert stand.one("select count(*) from tasker.templates") == before


def validated(stand: Stand, text: str) -> str:
    """What `tasker template validate` says against a template."""
    path = stand.folder / "template.yaml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tasker", "template", "validate", str(path)],
        cwd=ROOT,
        env=stand.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode not in {0, -11}, done
    return done.stderr


@row(
    "29",
    "template changed while its tasks run",
    how="a worker of the next version starts while a task of the first waits",
    expected="the task keeps the version it began with",
)
def _(stand: Stand) -> None:
    stand.register(WIDE)
    old = stand.tasker.submit("wide/edited")
    with stand.running(WIDE, TASKER_TEST_RELEASE="2.0.0"):
        new = stand.tasker.submit("wide/edited")
        assert stand.settled(new) == "complete"
        assert set(stand.states(new.id)) == {"first", "another"}
        with stand.running(WIDE):
            assert stand.settled(old) == "complete"
            assert set(stand.states(old.id)) == {"first", "second"}


@row(
    "43",
    "database that will not do",
    how="no schema; a role without rights",
    expected="the worker ends at once and says what is missing",
)
def _(stand: Stand) -> None:
    with psycopg.connect(stand.database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(b"create role rightless login")
        try:
            assert "denied" in ended_at_start(stand, stand.database_url.replace("//tasker@", "//rightless@"))
        finally:
            connection.execute(b"drop role rightless")
    assert "tasker db migrate" in ended_at_start(stand, stand.database_url.replace(f"/{name}?", "/tasker?"))


def ended_at_start(stand: Stand, database_url: str) -> str:
    """What a worker says that ends at once."""
    with stand.worker("tests.acceptance.apps.ledger", TASKER_DATABASE_URL=database_url) as worker:
        assert worker.process.wait(20) != 0
        return worker.log.read_text()


@row(
    "45",
    "database's clock jumps",
    how="tasker.clock() two hours ahead, then back, while steps run",
    expected="late or early at worst; every step has one effect",
)
def _(stand: Stand) -> None:
    clock = "create or replace function tasker.clock() returns timestamptz language sql as $$ select {} $$"
    with stand.running():
        tasks = stand.fans(10)
        stand.await_effects()
        stand.execute(clock.format("clock_timestamp() + interval '2 hours'"))
        stand.await_effects(30)
        stand.execute(clock.format("clock_timestamp()"))
        assert_settled(stand, [*tasks, *stand.fans(2)])


@row(
    "46",
    "handlers that hang",
    how="asleep; swallowing every exception; in C code that lets no other thread run; each with 1 s to run",
    expected="ended within the limit and 5 s; the worker goes on",
)
def _(stand: Stand) -> None:
    with stand.running(MISBEHAVING, TASKER_TIMEOUT_GRACE_SECONDS="1") as worker:
        for how in ("hang", "swallow", "hold_the_interpreter"):
            task = stand.submit("misbehaving/limited", {"how": how})
            eventually(lambda task=task: task.refresh().state == "error", f"{how} is ended", 1 + 1 + 5)
            assert_sound(stand, [task])
        fine = stand.submit("misbehaving/step", {"how": "return"})
        assert_settled(stand, [fine])
        assert worker.process.poll() is None


@row(
    "54",
    "cancel beside everything else",
    how="40 tasks cancelled by four threads at random moments of their run",
    expected="each is complete or cancelled, wholly",
)
def _(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans(40)
        victims = stand.random.sample(tasks, len(tasks))

        def cancel(share: list[Task]) -> None:
            for task in share:
                try:
                    task.cancel()
                except StateConflict:
                    continue

        threads = [threading.Thread(target=cancel, args=(victims[n::4],)) for n in range(4)]
        stand.await_effects()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {stand.settled(task) for task in tasks} <= {"complete", "cancelled"}
        eventually(lambda: "open" not in stand.attempts(tasks), "what ran has ended")
        assert_sound(stand, tasks)


@row(
    "55",
    "operator resolves what a handler still does",
    how="the step resolved while its handler waits, which then returns",
    expected="the operator's word stands; the result is kept as late",
)
def _(stand: Stand) -> None:
    with stand.running(MISBEHAVING):
        task = stand.submit("misbehaving/step", {"how": "gate"})
        stand.await_state(task, "misbehave", "in_progress")
        step = stand.one("select id from tasker.steps where task_id = %s and name = 'misbehave'", task.id)
        stand.rows(
            "select tasker.resolve_steps(array[%s::bigint], null, 'operator', 'done by hand', false)", step
        )
        (stand.folder / "open").touch()
        late = "select late ->> 'result' from tasker.step_attempts where step_id = %s and late is not null"
        eventually(lambda: stand.rows(late, step) == [("through",)], "the late result is kept")
        assert stand.states(task.id)["misbehave"] == "resolved_manually"
        assert stand.settled(task) == "complete"
        assert_sound(stand, [task])


@row(
    "56",
    "worker killed while its queue drains",
    how="a queue drained while steps run, the worker killed meanwhile, another started, the broker emptied",
    expected="the drain ends; nothing runs while it is paused; all of it once resumed",
)
def _(stand: Stand) -> None:
    engine = stand.tasker.engine
    told: list[int] = []
    drained = threading.Event()

    def drain() -> None:
        operate.drain_queue(engine, QUEUE, actor=None, reason=None, timeout_seconds=60, tell=told.append)
        drained.set()

    draining = threading.Thread(target=drain)
    with stand.running(MISBEHAVING) as victim:
        held_up = stand.submit("misbehaving/step", {"how": "gate"})
        stand.await_state(held_up, "misbehave", "in_progress")
        waiting = stand.submit("misbehaving/step", {"how": "return"})
        draining.start()
        eventually(lambda: told, "the drain waits for what runs")
        assert not drained.is_set()
        victim.kill_group()
    (stand.folder / "open").touch()
    with stand.running(MISBEHAVING):
        draining.join(60)
        assert drained.is_set(), "the lost step was taken back, and is held"
        with stand.redis() as client:
            client.flushall()
        had = effects(stand)
        assert stand.one("select count(*) from tasker.steps where state = 'in_progress'") == 0
        operate.resume_queue(engine, QUEUE)
        assert stand.settled(held_up) == "complete"
        assert_settled(stand, [waiting])
        assert had < effects(stand)


@row(
    "D1",
    "recovery beside finishes",
    how="every worker declared stopped, twenty times, while its steps run",
    expected="each outcome counts once or is refused; workers register anew",
)
def _(stand: Stand) -> None:
    declare = """
        select tasker.stop_workers(
            array(select id from tasker.workers where stopped_at is null), null, 'on purpose')
    """
    with stand.running() as worker:
        tasks = stand.fans(12)
        for _ in range(20):
            stand.rows(declare)
            time.sleep(0.1)
        assert_settled(stand, tasks)
        assert worker.process.poll() is None


@row(
    "D2",
    "killed while it gives steps back",
    how="messages of many steps, given back at once; child killed before and after the release",
    expected="they run elsewhere, uncharged",
)
def _(stand: Stand) -> None:
    at_once = {"TASKER_RELEASE_AFTER_MS": "1", "TASKER_BATCH_BUDGET_MS": "1000"}
    for fault in ("before_release_steps:kill", "after_release_steps:kill"):
        with stand.running(faults=fault, **at_once) as worker:
            tasks = stand.fans(2)
            assert_settled(stand, tasks)
            tasks += stand.fans()
            stand.await_fault(worker)
            assert_settled(stand, tasks)
    assert stand.losses() == 0
