"""Clients, workers, coordinators and operators act at once, in sessions of their own, and lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from threading import Event, Lock
from typing import TypeVar
from uuid import UUID

import psycopg
import pytest

from tasker.domain.states import ACTIVE, TASK_SETTLED
from tests.chance import chance_of
from tests.sql import actions
from tests.sql.protocol import Connection, Protocol, Reply, Won, keep, published, request
from tests.sql.simulation import TWO_ATTEMPTS, outcome

Answer = TypeVar("Answer")

GRAPHS = (
    "a > b > c > d",
    "a > b, c > d",
    "a, b, c, d, e, f > g; b > h > g",
    "a > " + ", ".join("bcdefgh") + " > i",
)
KINDS = {"complete": 6, "retry": 2, "permanent": 1}
PAUSE = 0.002
"""Seconds between the answer of a call and its commit."""


class Town:
    """What the sessions share: the broker's messages, the tasks and the workers."""

    def __init__(self) -> None:
        self.over = Event()
        self.tasks: list[UUID] = []
        self.workers: list[int] = []
        self._messages: list[int] = []
        self._lock = Lock()

    def hand_out(self, reply: Reply) -> None:
        """What a call asked to publish is now with the broker."""
        with self._lock:
            self._messages += published(reply)

    def receive(self, most: int, *, keeps_copy: bool = False) -> list[int]:
        """Up to so many messages, oldest first."""
        with self._lock:
            received = self._messages[:most]
            if not keeps_copy:
                del self._messages[:most]
            return received

    def slowly(self, session: Protocol, call: Callable[[], Answer]) -> Answer:
        """The answer of a call that commits a moment later, so that others meet its locks."""
        with session.connection.transaction():
            answer = call()
            self.over.wait(PAUSE)
        return answer


def client(session: Protocol, chance: Random, town: Town) -> None:
    names = [request(f"graph{chance.randrange(len(GRAPHS))}") for _ in range(chance.randint(1, 4))]
    reply = session.submit_all(names)
    town.tasks += [UUID(task["id"]) for task in reply["tasks"]]
    town.hand_out(reply)


def worker(session: Protocol, chance: Random, town: Town) -> None:
    steps = town.receive(chance.randint(1, 8), keeps_copy=chance.random() < 0.1)
    try:
        won = town.slowly(session, lambda: session.claim(*steps, worker=town.workers[-1]))
        while won.ids:
            won = run(session, chance, town, won)
    except psycopg.Error as error:
        if error.sqlstate != "TK001":
            raise
        town.workers.append(session.register_worker())


def run(session: Protocol, chance: Random, town: Town, won: Won) -> Won:
    """Give back what was won, or report how it ended; returns what was kept."""
    if chance.random() < 0.1:
        town.hand_out(town.slowly(session, lambda: session.release(won)))
        return Won({"steps": []}, won.claim_id)
    kinds = chance.choices(list(KINDS), weights=list(KINDS.values()), k=len(won.ids))
    outcomes = [outcome(attempt, kind) for attempt, kind in zip(won.attempts.values(), kinds, strict=True)]
    chance.shuffle(outcomes)
    offer = keep(most=2) if chance.random() < 0.5 else None
    kept = town.slowly(session, lambda: session.finish(outcomes, keep=offer, worker=town.workers[-1]))
    town.hand_out(kept.reply)
    return kept


def coordinator(session: Protocol, chance: Random, town: Town) -> None:
    session.pass_time(10)
    if chance.random() < 0.05:
        actions.stop(session, town.workers[-1])
    for loop in (session.due, session.dispatch, partial(actions.recover, session)):
        town.hand_out(town.slowly(session, loop))
    actions.beat(session, town.workers[-1], free=1)
    reply = town.slowly(session, partial(actions.republish, session))
    town.hand_out(reply)
    actions.park(session, *reply["unclaimable"])


def operator(session: Protocol, chance: Random, town: Town) -> None:
    tasks = chance.sample(town.tasks[-8:], min(2, len(town.tasks)))
    steps = session.rows("select id from tasker.steps where task_id = any (%s)", [tasks])
    picked = [row["id"] for row in chance.sample(steps, min(3, len(steps)))]
    calls: list[Callable[[], Reply]] = [
        lambda: actions.retry(session, *picked, tasks=tasks),
        lambda: actions.skip(session, *picked),
        lambda: actions.resolve(session, *picked, results=dict.fromkeys(picked, "by hand")),
        lambda: actions.cancel(session, *tasks) | {"publish": []},
    ]
    (call,) = chance.choices(calls, weights=[10, 5, 5, 1])
    town.hand_out(town.slowly(session, call))


Role = Callable[[Protocol, Random, Town], None]
PEOPLE: tuple[Role, ...] = (worker, worker, worker, worker, coordinator, coordinator, operator, operator)


def live(connect: Callable[[], Connection], *, submissions: int) -> None:
    """All act until the client has submitted so often; then all that is left is run, and must settle."""
    town, first = Town(), Protocol(connect())
    for number, notation in enumerate(GRAPHS):
        first.register(notation, name=f"graph{number}", retry=TWO_ATTEMPTS)
    first.expect(work=1)
    town.workers.append(first.worker)

    def act(role: Role, session: Protocol, seed: int) -> None:
        chance = chance_of(seed)
        while not town.over.is_set():
            role(session, chance, town)

    with ThreadPoolExecutor(len(PEOPLE)) as threads:
        acting = [threads.submit(act, role, Protocol(connect()), seed) for seed, role in enumerate(PEOPLE)]
        try:
            for number in range(submissions):
                client(first, chance_of(number), town)
                town.over.wait(10 * PAUSE)
        finally:
            town.over.set()
    for each in acting:
        each.result()
    come_to_rest(Protocol(connect()), town)


def come_to_rest(session: Protocol, town: Town) -> None:
    """A last worker runs what is left; then every task is settled and the database is sound."""
    session.pass_time(1_000_000)
    actions.stop(session, *town.workers)
    active = "select count(*) as n from tasker.steps where state = any (%s)"
    while session.row(active, [sorted(ACTIVE)])["n"]:
        town.hand_out(actions.recover(session))
        town.hand_out(session.due())
        steps = town.receive(64)
        if not steps:
            session.pass_time(10_000)
            actions.beat(session, session.worker, free=1)
            reply = actions.republish(session, max_publishes=100)
            assert reply["moved"], "steps are active, but there is nothing to do for them"
            town.hand_out(reply)
        town.hand_out(session.finish(session.claim(*steps).complete()).reply)
    states = session.rows("select distinct state from tasker.tasks")
    assert {row["state"] for row in states} <= TASK_SETTLED
    assert session.rows("select * from tasker.invariant_violations()") == []


def test_sessions_that_act_at_once_lose_nothing(connect: Callable[[], Connection]) -> None:
    live(connect, submissions=120)


@pytest.mark.slow
def test_sessions_that_act_at_once_for_long_lose_nothing(connect: Callable[[], Connection]) -> None:
    live(connect, submissions=4000)
