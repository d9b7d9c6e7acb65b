"""Rows: what happens to messages and to the broker that carries them."""

from __future__ import annotations

import json
import time

from tests.acceptance.effects import assert_settled, assert_sound, effects
from tests.acceptance.system import APPS, eventually
from tests.faults.matrix import row
from tests.faults.rows_wires import assert_once
from tests.faults.stand import LEDGER, QUEUE, Stand, copy_of

LATE = f"{APPS}.late"


@row(
    "10",
    "FLUSHALL with a backlog",
    how="FLUSHALL with most of 40 tasks queued",
    expected="all of it is sent again, window by window",
)
def _(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans(40)
        stand.await_effects()
        with stand.redis() as client:
            assert client.llen(QUEUE)
            client.flushall()
        assert_once(stand, tasks)


@row(
    "11",
    "broker restarted, its messages gone",
    how="Redis ended without saving and started",
    expected="sent again",
)
def _(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans(20)
        stand.await_effects()
        stand.restart_redis()
        assert_once(stand, tasks)


@row(
    "11b",
    "broker restored from an old copy",
    how="messages of before put back after they ran",
    expected="old messages win nothing",
)
def _(stand: Stand) -> None:
    stand.register()
    tasks = stand.fans(4)
    eventually(lambda: len(stand.messages()) >= 4, "the roots are published")
    old = stand.messages()
    with stand.running():
        assert_once(stand, tasks)
        for message in old:
            stand.forge(copy_of(message))
        eventually(lambda: not stand.messages(), "the old messages are taken")
        assert_once(stand, [*tasks, *stand.fans(1)])
        assert stand.attempts(tasks) == {"complete": 32}


@row(
    "12",
    "broker out of memory",
    how="CONFIG SET maxmemory 1 for 3 s",
    expected="publishing rests, Celery may end the worker; started again, it finds all sent later",
)
def _(stand: Stand) -> None:
    with stand.running():
        assert_once(stand, stand.fans(1))
        with stand.redis() as client:
            client.config_set("maxmemory", 1)
            tasks = stand.fans(4)
            time.sleep(3)
            client.config_set("maxmemory", 0)
        with stand.running():
            assert_once(stand, tasks)


@row(
    "13",
    "every message a hundred times",
    how="100 copies of each put into the queue",
    expected="one attempt for each step",
    quick=True,
)
def _(stand: Stand) -> None:
    stand.register()
    tasks = stand.fans(2)
    eventually(lambda: len(stand.messages()) >= 2, "the roots are published")
    for message in stand.messages():
        for _ in range(100):
            stand.forge(copy_of(message))
    with stand.running():
        assert_once(stand, tasks)
        eventually(lambda: not stand.messages(), "all copies are taken")
        assert_once(stand, tasks)
        assert stand.attempts(tasks) == {"complete": 16}


@row(
    "13b",
    "one message to two children at once",
    how="two copies, two idle children",
    expected="one of them wins",
)
def _(stand: Stand) -> None:
    with stand.running() as worker:
        assert_once(stand, stand.fans(1))
        tasks = [stand.tasker.submit("ledger/fan") for _ in range(1)]
        for _ in range(20):
            stand.send(stand.step_ids(tasks[0]))
        assert_once(stand, tasks)
        eventually(lambda: not stand.messages() and not stand.runners(worker), "all copies are taken")
        assert_once(stand, tasks)


@row(
    "14",
    "message older than the claim",
    how="messages for steps that wait for a retry, run, or are not ready",
    expected="they win nothing and change no attempt",
)
def _(stand: Stand) -> None:
    with stand.running("tests.faults.apps.misbehaving") as worker:
        task = stand.submit("misbehaving/step", {"how": "flap", "failures": 2})
        for _ in range(50):
            stand.send(stand.step_ids(task))
        assert stand.settled(task) == "complete"
        assert stand.attempts([task]) == {"retry": 2, "complete": 3}
        eventually(lambda: not stand.messages() and not stand.runners(worker), "all copies are taken")
        assert stand.attempts([task]) == {"retry": 2, "complete": 3}
        assert_sound(stand, [task])


@row(
    "15",
    "messages that name nothing of ours",
    how="ids of no step, of finished steps, no ids, text as ids, a queue nobody has, words too many",
    expected="dropped; the worker goes on",
)
def _(stand: Stand) -> None:
    with stand.running() as worker:
        done = stand.fans(1)
        assert_once(stand, done)
        for ids in (
            [10**15],
            stand.step_ids(done[0]),
            [],
            ["one"],
            "text",
            None,
            [1.5],
            [10**30],
            [True],
            {"1": 2},
        ):
            stand.send(ids)
        stand.send([1], surprise=True)
        assert_once(stand, [*done, *stand.fans(2)])
        assert worker.process.poll() is None


GARBAGE = {
    "not JSON": b"\x00\xff not a message",
    "not an envelope": b"[1, 2]",
    "an empty envelope": b"{}",
    "no properties": b'{"body": "", "headers": {}}',
    "50 MB": b'{"body": "' + b"x" * (50 << 20) + b'"}',
}


@row(
    "16",
    "malformed messages",
    how="bytes that are no message, pickled content, another task's name, 50 MB, put into the queue",
    expected="refused; the worker goes on",
)
def _(stand: Stand) -> None:
    with stand.running(TASKER_BROKER_URL=stand.broker_url) as worker:
        tasks = stand.fans(2)
        assert_once(stand, tasks)
        stand.tasker.celery.send_task("os.system", ("true",), queue=QUEUE)
        with stand.redis() as client:
            stand.send([1])
            pickled = json.loads(client.lindex(QUEUE, 0) or '{"properties": {}, "headers": {}}')
        pickled |= {"content-type": "application/x-python-serialize", "body": "gASVAAAAAAAAAAA="}
        stand.forge(json.dumps(pickled).encode())
        assert_once(stand, [*tasks, *stand.fans(2)])
        for what, body in GARBAGE.items():
            stand.forge(body)
            more = stand.fans(1)
            eventually(lambda more=more: more[0].refresh().state == "complete", f"goes on after {what}", 60)
        assert worker.process.poll() is None


@row(
    "18b",
    "message that kills whoever takes it, before the claim",
    how="kill at every pass of before_claim_steps",
    expected="after five publications the step is parked as unclaimable; a retry runs it",
)
def _(stand: Stand) -> None:
    with stand.running(faults="before_claim_steps:kill:1+", TASKER_LOST_MESSAGE_SECONDS="0.1"):
        tasks = stand.fans(1)
        assert stand.settled(tasks[0]) == "error"
        query = "select reason from tasker.transitions where step_id is not null and to_state = 'error'"
        assert stand.rows(query) == [("unclaimable",)]
        assert sum(effects(stand).values()) == 0
    with stand.running():
        stand.retry(tasks[0])
        assert_settled(stand, tasks)


@row(
    "30",
    "worker without the handler",
    how="a worker of an older build takes the message",
    expected="the step is given back and runs on one that has it; no attempt is a failure",
)
def _(stand: Stand) -> None:
    with stand.running(LEDGER, "--pool", "solo"):
        from tests.acceptance.apps import late

        task = stand.tasker.submit(late.news)
        given_back = "select given_back from tasker.steps where task_id = %s and name = 'first'"
        eventually(lambda: stand.one(given_back, task.id) > 0, "it is given back")
    with stand.running(LATE):
        assert stand.settled(task) == "complete"
        assert set(stand.failures(task.id).values()) == {0}


@row("10b", "broker emptied again and again", how="FLUSHALL every 0.3 s, ten times", expected="all settle")
def _(stand: Stand) -> None:
    with stand.running():
        tasks = stand.fans(20)
        with stand.redis() as client:
            for _ in range(10):
                client.flushall()
                time.sleep(0.3)
        assert_once(stand, tasks)
        assert stand.attempts(tasks)["complete"] == 160
