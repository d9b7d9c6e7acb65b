"""Rows: processes killed, stopped or told to end, at chosen lines and at any."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter

import psycopg

from tests.acceptance.effects import assert_settled, assert_sound, effects
from tests.acceptance.system import PATIENCE_SECONDS, eventually
from tests.faults.matrix import row
from tests.faults.stand import FAN_STEPS, FAN_TASKS, LEDGER, Stand, stopped
from tests.processes import living

SUBMIT = """
from tasker import Tasker
print(Tasker().submit("ledger/fan", idempotency_key="the only one").id)
"""


def submit_elsewhere(stand: Stand, faults: str = "") -> subprocess.CompletedProcess[str]:
    """An application that submits one task under a key."""
    return subprocess.run(
        [sys.executable, "-c", SUBMIT],
        env=stand.variables() | {"TASKER_FAULTS": faults},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@row(
    "1",
    "client killed before its submit",
    how="kill at before_submit_tasks",
    expected="nothing is there; again makes one task",
)
def _(stand: Stand) -> None:
    with stand.running():
        assert submit_elsewhere(stand, "before_submit_tasks:kill").returncode == -signal.SIGKILL
        assert stand.one("select count(*) from tasker.tasks") == 0
        task = stand.tasker.task(submit_elsewhere(stand).stdout.strip())
        assert_settled(stand, [task])


@row(
    "2",
    "client killed after its commit",
    how="kill at after_submit_tasks, so nothing was published",
    expected="the task runs; again names the same task",
)
def _(stand: Stand) -> None:
    with stand.running():
        assert submit_elsewhere(stand, "after_submit_tasks:kill").returncode == -signal.SIGKILL
        task = stand.tasker.task(stand.one("select id from tasker.tasks"))
        assert submit_elsewhere(stand).stdout.strip() == str(task.id)
        assert_settled(stand, [task])


def killed_in_a_child(stand: Stand, fault: str, twice: int | None) -> None:
    """A child dies at the point, somewhere in the first passes; its main sees to the rest.

    So many steps then had their effect twice and the others once, where `twice` is given.
    """
    with stand.running(faults=f"{fault}:{stand.random.randint(1, 5)}") as worker:
        tasks = stand.fans()
        stand.await_fault(worker)
        assert_settled(stand, tasks)
        assert stand.losses() <= 1
        if twice is not None:
            assert Counter(effects(stand).values()) == Counter(
                [2] * twice + [1] * (FAN_TASKS * FAN_STEPS - twice)
            )


def killed_main(stand: Stand, fault: str) -> None:
    """A main process dies at the point; its children go with it, and another worker takes over."""
    with stand.running(faults=fault) as worker:
        tasks = stand.fans()
        stand.await_fault(worker)
        worker.process.wait(PATIENCE_SECONDS)
        with stand.running():
            assert_settled(stand, tasks)


CHILD_KILLS = {
    "5": ("publisher killed after it published", "after_publish", "nothing runs twice for it"),
    "5b": ("publisher killed between two messages", "after_message", "the rest is published again"),
    "17": (
        "child killed with a message, before its claim",
        "before_claim_steps",
        "the message is sent again",
    ),
    "18": ("child killed after its claim", "after_claim_steps", "the steps are taken back"),
    "18c": ("child killed before the handler", "before_handler", "the step runs again"),
    "19": ("child killed after the handler", "after_handler", "the step runs again, once"),
    "23b": ("child killed before it records outcomes", "before_finish_steps", "the steps run again"),
    "24": ("child killed after commit, before publish", "after_finish_steps", "children are published again"),
    "24b": ("child killed with steps it kept", "after_keep", "the kept steps are taken back"),
}
RUN_TWICE = {"5": 0, "19": 1}
"""How many steps have their effect twice, where the row says it."""


def enter_child_kill(number: str, fault: str, at: str, expected: str) -> None:
    twice = RUN_TWICE.get(number)
    row(number, fault, how=f"kill at {at}", expected=expected, quick=number == "24")(
        lambda stand: killed_in_a_child(stand, f"{at}:kill", twice)
    )


for number, (fault, at, expected) in CHILD_KILLS.items():
    enter_child_kill(number, fault, at, expected)


@row(
    "19b",
    "child killed while its handler runs",
    how="kill -9 while a handler waits, and others run beside it",
    expected="one more attempt of that step; the worker lives",
)
def _(stand: Stand) -> None:
    with stand.running("tests.faults.apps.poisoned") as worker:
        waiting = stand.submit("misbehaving/step", {"how": "gate"})
        stand.await_state(waiting, "misbehave", "in_progress")
        (child,) = stand.runners(worker)
        tasks = stand.fans()
        os.kill(child, signal.SIGKILL)
        (stand.folder / "open").touch()
        assert_settled(stand, [waiting, *tasks])
        assert stand.attempts([waiting])["lost"] == 1
        assert worker.process.poll() is None


MAIN_KILLS = {
    "20b": ("main killed at a heartbeat", "before_beat:kill:4", "its steps go to another worker"),
    "20c": ("main killed in a coordinator's pass", "before_start_due:kill:5", "another coordinator goes on"),
}
for number, (fault, at, expected) in MAIN_KILLS.items():
    row(number, fault, how=f"kill at {at.split(':')[0]}", expected=expected)(
        lambda stand, at=at: killed_main(stand, at)
    )


@row(
    "20",
    "main killed with children alive",
    how="kill -9 of the main process",
    expected="its children die with it",
)
def _(stand: Stand) -> None:
    with stand.running() as victim:
        tasks = stand.fans()
        stand.await_effects()
        children = set(stand.children(victim))
        os.kill(victim.pid, signal.SIGKILL)
        victim.process.wait()
        eventually(lambda: not living(children), "the children are gone")
        with stand.running():
            assert_settled(stand, tasks)


@row(
    "4",
    "coordinator killed between commit and publish",
    how="kill at after_dispatch_steps, of tasks submitted inside a transaction of the application",
    expected="the steps are published again",
)
def _(stand: Stand) -> None:
    stand.register()
    with psycopg.connect(stand.database_url) as connection:
        tasks = [stand.tasker.submit("ledger/fan", connection=connection) for _ in range(2)]
    with stand.coordinator(faults="after_dispatch_steps:kill") as killed:
        assert killed.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert {stand.states(task.id)["root"] for task in tasks} == {"enqueued"}
    assert stand.messages() == []
    with stand.running():
        assert_settled(stand, tasks)


@row(
    "21",
    "worker stopped past its lease, back after recovery",
    how="SIGSTOP of a worker until its steps were taken back, then SIGCONT",
    expected="late outcomes are refused and kept; it registers anew and works",
)
def _(stand: Stand) -> None:
    with stand.running() as victim:
        tasks = stand.fans()
        stand.a_runner(victim)
        pids = [victim.pid, *stand.children(victim)]
        with stopped(pids), stand.running() as other:
            eventually(lambda: "silent" in stand.stopped(), "the stopped worker is taken for dead")
            assert_settled(stand, tasks)
            other.stop()
        more = stand.fans(2)
        assert_settled(stand, [*tasks, *more])
        assert victim.process.poll() is None
        assert b"came too late" in victim.log.read_bytes()
        assert stand.losses() == 0, "steps of shared claims are charged with nothing"


@row(
    "6",
    "two coordinators, one stopped and back",
    how="SIGSTOP of one of two `tasker coordinator` until it is taken for dead, then SIGCONT",
    expected="work goes on; the one that is back breaks nothing, and declares nobody dead",
)
def _(stand: Stand) -> None:
    with (
        stand.running(LEDGER, "--concurrency", "2", "--no-coordinator"),
        stand.coordinator() as first,
        stand.coordinator(),
    ):
        with stopped([first.pid]):
            tasks = stand.fans()
            assert_settled(stand, tasks)
            eventually(stand.taken_for_dead, "the one that stands still is taken for dead")
        more = stand.fans()
        assert_settled(stand, [*tasks, *more])
        assert stand.taken_for_dead() == {first.pid}, "only the one that stood still"


@row(
    "60",
    "coordinators killed in the middle of recovery",
    how="kill at after_stop_workers, then at after_recover_steps, then at after_republish_steps",
    expected="the next one goes on where it ended",
)
def _(stand: Stand) -> None:
    with stand.running(LEDGER, "--concurrency", "2", "--no-coordinator") as victim:
        tasks = stand.fans()
        stand.await_effects(1)
        stand.a_runner(victim)
        victim.kill_group()
    for fault in ("after_stop_workers:kill", "after_recover_steps:kill", "after_republish_steps:kill:3"):
        with stand.coordinator(faults=fault) as killed:
            assert killed.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    with stand.running():
        assert_settled(stand, tasks)


@row(
    "57",
    "workers told to end, gently and less so",
    how="SIGTERM; SIGTERM and kill -9; SIGQUIT; each while steps run",
    expected="what was not begun costs nothing; what was is finished, or runs again",
)
def _(stand: Stand) -> None:
    tasks = []
    for signals in ([signal.SIGTERM], [signal.SIGTERM, signal.SIGKILL], [signal.SIGQUIT]):
        with stand.running() as worker:
            had = sum(effects(stand).values())
            tasks += stand.fans()
            stand.await_effects(had + 3)
            for number in signals:
                os.kill(worker.pid, number)
            worker.process.wait(PATIENCE_SECONDS)
    with stand.running():
        assert_settled(stand, tasks)
    assert stand.losses() == 0


@row("57b", "worker told to begin anew", how="SIGHUP while steps run", expected="it starts again and goes on")
def _(stand: Stand) -> None:
    with stand.running() as worker:
        tasks = stand.fans()
        stand.await_effects(3)
        os.kill(worker.pid, signal.SIGHUP)
        eventually(lambda: "shutdown" in stand.stopped(), "it has left")
        assert_settled(stand, tasks)
        stand.ready(worker)
        assert_settled(stand, [*tasks, *stand.fans(1)])
        assert stand.losses() == 0


@row(
    "59",
    "children replaced after each message",
    how="worker_max_tasks_per_child = 1 under load",
    expected="no hang, no loss",
)
def _(stand: Stand) -> None:
    with stand.running("tests.faults.apps.recycled", TASKER_BROKER_URL=stand.wired_broker):
        tasks = stand.fans(3)
        assert_settled(stand, tasks)
        assert_sound(stand, tasks)
