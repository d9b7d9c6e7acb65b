"""Two or three calls that meet, in every order of their statements: nothing is lost, and all can settle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest

from tasker.domain.states import ACTIVE, TASK_SETTLED
from tests.sql import actions
from tests.sql.protocol import Connection, Protocol, Won, keep, published
from tests.sql.schedules import Call, Stage, explore
from tests.sql.soundness import violations
from tests.sql.test_property import FORGET

Scene = Callable[[Stage], Sequence[Call]]


@pytest.fixture
def stage(connect: Callable[[], Connection]) -> Iterator[Stage]:
    with ThreadPoolExecutor() as threads:
        yield Stage(connect, threads, actors=3)


def ready(stage: Stage, notation: str) -> list[int]:
    """An empty database with one task of this graph; the steps in order."""
    stage.host.connection.execute(FORGET)
    stage.host.__dict__.pop("worker", None)
    stage.host.register(notation)
    stage.host.expect(work=1)
    return list(stage.host.steps(stage.host.submit()).values())


def worker(stage: Stage, *steps: int) -> tuple[int, Won]:
    """A worker that has claimed these steps."""
    number = stage.host.register_worker()
    return number, stage.host.claim(*steps, worker=number)


# Scenes


def two_parents(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, b, _ = ready(stage, "a, b > c")
    (first, of_first), (second, of_second) = worker(stage, a), worker(stage, b)
    return [
        lambda: one.finish(of_first.complete(), worker=first),
        lambda: two.finish(of_second.complete(), worker=second, keep=keep()),
    ]


def a_doubled_message(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    steps = ready(stage, "a, b")
    workers = [stage.host.register_worker() for _ in range(2)]
    return [
        lambda: one.claim(*steps, worker=workers[0]),
        lambda: two.claim(*steps[::-1], worker=workers[1]),
    ]


def a_claim_beside_its_repeat(stage: Stage) -> Sequence[Call]:
    steps, number, claim = ready(stage, "a, b"), stage.host.register_worker(), uuid4()
    return [partial(actor.claim, *steps, worker=number, claim_id=claim) for actor in stage.actors[:2]]


def a_finish_beside_its_repeat(stage: Stage) -> Sequence[Call]:
    a, _, _ = ready(stage, "a > b, c")
    number, won = worker(stage, a)
    claim = uuid4()
    outcomes, offer = won.complete(), keep(most=1)
    return [
        partial(actor.finish, outcomes, worker=number, claim_id=claim, keep=offer)
        for actor in stage.actors[:2]
    ]


def a_finish_beside_recovery(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, b, _ = ready(stage, "a, b > c")
    number, won = worker(stage, a, b)
    actions.stop(stage.host, number)
    return [lambda: one.finish(won.complete()[:1], worker=number), lambda: actions.recover(two)]


def a_claim_beside_its_workers_end(stage: Stage) -> Sequence[Call]:
    one, two, three = stage.actors
    (a,) = ready(stage, "a")
    number = stage.host.register_worker()

    def claim() -> object:
        try:
            return one.claim(a, worker=number)
        except psycopg.Error as error:
            if error.sqlstate != "TK001":
                raise
            return {"publish": []}  # the message is lost with its worker

    return [claim, lambda: actions.stop(two, number), lambda: actions.recover(three)]


def a_finish_beside_a_cancel(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, _ = ready(stage, "a > b")
    number, won = worker(stage, a)
    (task,) = tasks(stage)
    return [
        lambda: one.finish(won.complete(), worker=number, keep=keep()),
        lambda: actions.cancel(two, task),
    ]


def a_claim_beside_a_pause_and_a_resume(stage: Stage) -> Sequence[Call]:
    one, two, three = stage.actors
    (a,) = ready(stage, "a")
    number = stage.host.register_worker()
    (task,) = tasks(stage)
    return [
        lambda: one.claim(a, worker=number),
        lambda: actions.pause(two, task),
        lambda: actions.resume(three, task),
    ]


def a_finish_beside_a_pause_and_a_resume(stage: Stage) -> Sequence[Call]:
    one, two, three = stage.actors
    a, _ = ready(stage, "a > b")
    number, won = worker(stage, a)
    (task,) = tasks(stage)
    return [
        lambda: one.finish(won.complete(), worker=number),
        lambda: actions.pause(two, task),
        lambda: actions.resume(three, task),
    ]


def a_release_beside_recovery(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    steps = ready(stage, "a, b")
    number, won = worker(stage, *steps)
    actions.stop(stage.host, number)
    return [lambda: one.release(won), lambda: actions.recover(two)]


def a_skip_beside_a_finish(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, b, _ = ready(stage, "a, b > c")
    number, won = worker(stage, a)
    return [lambda: one.finish(won.complete(), worker=number), lambda: actions.skip(two, b)]


def a_resolve_beside_a_finish(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, _ = ready(stage, "a > b")
    number, won = worker(stage, a)
    return [
        lambda: one.finish(won.complete(), worker=number, keep=keep()),
        lambda: actions.resolve(two, a),
    ]


def a_retry_beside_a_finish(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, b, _ = ready(stage, "a, b > c")
    stage.host.fail(a, permanent=True)
    number, won = worker(stage, b)
    return [
        lambda: one.finish(won.fail(permanent=True), worker=number),
        lambda: actions.retry(two, a),
    ]


def a_timeout_beside_a_finish(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    a, _ = ready(stage, "a > b")
    number, won = worker(stage, a)
    return [
        lambda: one.finish(won.complete(), worker=number),
        lambda: actions.time_out(two, {a: 1}),
    ]


def a_retry_that_is_due_beside_a_cancel(stage: Stage) -> Sequence[Call]:
    one, two, _ = stage.actors
    (a,) = ready(stage, "a")
    stage.host.fail(a)
    one.pass_time(60)
    (task,) = tasks(stage)
    return [one.due, lambda: actions.cancel(two, task)]


def a_republish_beside_a_claim_and_a_release(stage: Stage) -> Sequence[Call]:
    one, two, three = stage.actors
    (a,) = ready(stage, "a")
    _, won = worker(stage, a)
    idle = stage.host.register_worker()
    one.pass_time(60)
    actions.beat(one, idle, free=1)
    return [
        partial(actions.republish, one),
        lambda: two.release(won),
        lambda: three.claim(a, worker=idle),
    ]


SCENES = (
    two_parents,
    a_finish_beside_recovery,
    a_claim_beside_its_repeat,
    a_finish_beside_its_repeat,
    a_claim_beside_its_workers_end,
    a_claim_beside_a_pause_and_a_resume,
    a_doubled_message,
    a_finish_beside_a_cancel,
    a_finish_beside_a_pause_and_a_resume,
    a_release_beside_recovery,
    a_skip_beside_a_finish,
    a_resolve_beside_a_finish,
    a_retry_beside_a_finish,
    a_timeout_beside_a_finish,
    a_retry_that_is_due_beside_a_cancel,
    a_republish_beside_a_claim_and_a_release,
)
QUICK = SCENES[:2]


# What each order leads to


def tasks(stage: Stage) -> list[UUID]:
    return [row["id"] for row in stage.host.rows("select id from tasker.tasks")]


def sound_and_can_settle(stage: Stage, answers: Sequence[object]) -> None:
    """The rules hold, what is enqueued again was said to be published, and all can settle."""
    host = stage.host
    assert violations(host.connection) == {}
    assert host.rows("select * from tasker.invariant_violations()") == []
    replies = [answer.reply if isinstance(answer, Won) else answer for answer in answers]
    told = {
        step
        for reply in replies
        if isinstance(reply, dict) and "publish" in reply
        for step in published(reply)
    }
    again = host.rows("select id from tasker.steps where state = 'enqueued' and attempt > 0")
    assert {row["id"] for row in again} <= told, "enqueued again, and nobody is told to publish it"
    settle(host)


def settle(host: Protocol) -> None:
    """All workers are lost, and another does what is left."""
    gone = [row["id"] for row in host.rows("select id from tasker.workers where stopped_at is null")]
    actions.stop(host, *gone)
    last = host.register_worker()
    for task in host.rows("select id from tasker.tasks where state = 'paused'"):
        actions.resume(host, task["id"])
    query = "select id from tasker.steps where state = any (%s)"
    for _ in range(30):
        actions.recover(host, max_losses=100)
        host.pass_time(1000)
        host.due()
        host.dispatch()
        enqueued = [row["id"] for row in host.rows(query, [["enqueued"]])]
        host.finish(host.claim(*enqueued, worker=last).complete(), worker=last)
        if not host.rows(query, [sorted(ACTIVE)]):
            break
    states = {row["state"] for row in host.rows("select state from tasker.tasks")}
    assert states <= TASK_SETTLED
    assert violations(host.connection) == {}


def play(stage: Stage, scene: Scene, switches: int) -> int:
    return explore(stage, scene, partial(sound_and_can_settle, stage), switches=switches)


@pytest.mark.parametrize("scene", QUICK, ids=lambda scene: scene.__name__)
def test_calls_that_meet_with_one_switch_between_them(stage: Stage, scene: Scene) -> None:
    assert play(stage, scene, switches=1) > 10


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_two_calls_that_meet_with_two_switches_or_three_with_one(stage: Stage, scene: Scene) -> None:
    calls = len(scene(stage))
    assert play(stage, scene, switches=4 - calls) > 10


WITHOUT_LOCKS = """
create or replace function tasker.lock_with_children(p_steps bigint[], p_parents bigint[])
returns bigint[]
language sql
volatile
as $$
    select coalesce(array_agg(distinct child_id), '{}')
    from tasker.step_edges
    where parent_id = any (p_parents)
$$
"""


def test_a_lock_that_is_not_taken_is_noticed(stage: Stage) -> None:
    stage.host.connection.execute(WITHOUT_LOCKS)
    with pytest.raises((AssertionError, psycopg.errors.CheckViolation)):
        play(stage, two_parents, switches=1)
