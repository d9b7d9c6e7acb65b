"""Random graphs, workers, losses and operators: the database is sound at every point and comes to rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, TypeVar

import pytest

from tests.sql.protocol import QUEUE, Attempt, Connection, Protocol, keep
from tests.sql.simulation import SLOW, World

Item = TypeVar("Item")

SHARES = {
    "deliver": 20,
    "finish": 20,
    "pass_time": 6,
    "release": 2,
    "stop": 2,
    "recover": 3,
    "lose": 2,
    "republish": 3,
    "claim_again": 2,
    "release_late": 1,
    "finish_late": 2,
    "finish_again": 2,
    "pause_queue": 2,
    "gate": 1,
    "pause": 2,
    "resume": 2,
    "skip": 1,
    "resolve": 1,
    "retry": 3,
    "park": 1,
    "cancel": 0.2,
    "submit": 1,
}
"""How often each action is taken: tasks get somewhere before they are disturbed."""

FORGET = """
    truncate tasker.templates, tasker.template_steps, tasker.template_edges, tasker.tasks, tasker.steps,
        tasker.step_edges, tasker.step_attempts, tasker.transitions, tasker.workers, tasker.queues,
        tasker.handlers, tasker.coordinator_loops, tasker.dead_letters
"""

KINDS = {"complete": 6, "retry": 2, "permanent": 1}
KEEPS = (keep(), keep(), keep(budget_ms=1), keep(queue=SLOW), keep(most=2), None)


def chance_of(seed: int) -> Random:
    """Chance that decides the same way every time."""
    return Random(seed)  # noqa: S311 - no secret is made of it


class Turn(NamedTuple):
    """One action; its seed decides everything about it that is left to chance."""

    action: str
    seed: int


@dataclass(frozen=True)
class History:
    """A graph of `size` steps, submitted `copies` times at once, and what happens to the tasks."""

    seed: int
    size: int
    copies: int
    turns: tuple[Turn, ...]

    @classmethod
    def random(cls, seed: int, turns: int) -> History:
        """The history of this seed."""
        chance = chance_of(seed)
        actions = chance.choices(list(SHARES), weights=list(SHARES.values()), k=turns)
        return cls(
            seed=seed,
            size=chance.randint(1, 30),
            copies=chance.randint(1, 2),
            turns=tuple(Turn(action, chance.randrange(1_000_000)) for action in actions),
        )

    def play(self, connection: Connection) -> None:
        """Let it happen in an empty database; raises what goes wrong."""
        connection.execute(FORGET)
        world = World(Protocol(connection))
        graph = random_graph(chance_of(self.seed), self.size)
        world.submit(graph, self.copies, delay=0, joined=False)
        for number, (action, seed) in enumerate(self.turns):
            getattr(Move(world, chance_of(seed), graph), action)()
            world.check(by_the_product=number % 5 == 0)
        world.come_to_rest()

    def shrunk(self, connection: Connection) -> History:
        """A smaller history that goes wrong too: fewer turns and steps, in passes while that helps."""
        smallest = self
        length = len(self.turns)
        while length := length // 2:
            for start in range(len(smallest.turns) - length, -1, -length):
                turns = smallest.turns
                fewer = replace(smallest, turns=turns[:start] + turns[start + length :])
                smallest = fewer if goes_wrong(fewer, connection) else smallest
        for size in range(1, smallest.size):
            if goes_wrong(replace(smallest, size=size), connection):
                return replace(smallest, size=size)
        return smallest


def goes_wrong(history: History, connection: Connection) -> bool:
    """Whether playing the history raises anything."""
    try:
        history.play(connection)
    except Exception:  # noqa: BLE001 - a smaller history may go wrong in another way
        return True
    return False


def random_graph(chance: Random, size: int) -> list[set[int]]:
    """The parents of each step; parents come first."""
    most = chance.choice([1, 2, 2, 3, 5])
    return [set(chance.sample(range(number), chance.randint(0, min(most, number)))) for number in range(size)]


@dataclass(frozen=True)
class Move:
    """The actions, by name; each does nothing when there is nothing for it to do."""

    world: World
    chance: Random
    graph: list[set[int]]

    def some(self, items: Sequence[Item], most: int) -> list[Item]:
        return self.chance.sample(items, self.chance.randint(min(1, len(items)), min(most, len(items))))

    def one_in(self, times: int) -> bool:
        return self.chance.randrange(times) == 0

    # Workers

    def deliver(self) -> None:
        steps = self.some(sorted(set(self.world.messages)), 8)
        self.world.deliver(steps, self.chance.choice(self.world.workers))
        if not self.one_in(4):  # else the broker keeps a copy
            for step in steps:
                self.world.messages.remove(step)

    def claim_again(self) -> None:
        for claim in self.some([it for it in self.world.claims if it.worker in self.world.workers], 1):
            self.world.claim(claim)

    def finish(self) -> None:
        for worker in self.some(sorted({held.worker for held in self.world.running.values()}), 1):
            own = [held.attempt for held in self.world.running.values() if held.worker == worker]
            outcomes = self.outcomes(self.some(own, 8))
            if self.one_in(3):  # a report that was delayed travels along
                outcomes += self.outcomes(self.some(self.world.fenced, 1))
            alive = worker in self.world.workers
            self.world.finish(worker, outcomes, self.chance.choice(KEEPS) if alive else None)

    def finish_late(self) -> None:
        outcomes = self.outcomes(self.some(self.world.fenced, 4))
        self.world.finish(self.chance.choice(self.world.workers), outcomes, keep())

    def outcomes(self, attempts: Sequence[Attempt]) -> list[tuple[Attempt, str]]:
        kinds = self.chance.choices(list(KINDS), weights=list(KINDS.values()), k=len(attempts))
        return list(zip(attempts, kinds, strict=True))

    def finish_again(self) -> None:
        for report in self.some(self.world.reports, 1):
            self.world.send_again(report)

    def release(self) -> None:
        self.world.release(self.some(list(self.world.running), 4))

    def release_late(self) -> None:
        self.world.release_late(self.some(self.world.fenced, 2))

    def stop(self) -> None:
        busy = sorted({held.worker for held in self.world.running.values()} & set(self.world.workers))
        self.world.stop(self.chance.choice(busy or self.world.workers))

    # The broker and coordinators

    def lose(self) -> None:
        self.world.lose(self.some(self.world.messages, 4))

    def republish(self) -> None:
        self.world.republish(self.chance.choice([6, 200]))

    def recover(self) -> None:
        self.world.recover()

    def pass_time(self) -> None:
        self.world.pass_time(self.chance.choice([0, 1, 3, 40]))

    # Operators

    def pause_queue(self) -> None:
        queue = self.chance.choice([QUEUE, SLOW])
        (self.world.pause_queue if self.one_in(3) else self.world.resume_queue)(queue)

    def gate(self) -> None:
        session = self.world.session
        queue = self.chance.choice([QUEUE, SLOW])
        (session.close_gate if self.one_in(3) else session.open_gate)(queue)

    def pause(self) -> None:
        if self.one_in(2):
            self.world.pause(self.chance.choice(self.world.tasks))

    def resume(self) -> None:
        self.world.resume(self.chance.choice(self.world.tasks))

    def skip(self) -> None:
        self.world.skip(self.some(list(self.world.rows()), 2))

    def resolve(self) -> None:
        steps = self.some(list(self.world.rows()), 2)
        self.world.resolve(steps, {step: {"by hand": step} for step in steps} if self.one_in(2) else None)

    def retry(self) -> None:
        steps = {step: row["state"] for step, row in self.world.rows().items()}
        failed = [step for step, state in steps.items() if state == "error"]
        self.world.retry(self.some(failed, 4) + self.some(list(steps), 2))

    def park(self) -> None:
        self.world.park(self.some(list(self.world.rows()), 3))

    def cancel(self) -> None:
        self.world.cancel(self.chance.choice(self.world.tasks))

    def submit(self) -> None:
        self.world.submit(self.graph, 1, delay=self.chance.choice([0, 30]), joined=self.one_in(2))


def walk(connection: Connection, *, histories: int, turns: int) -> None:
    """Play histories that are always the same; the first that goes wrong is shown in its smallest form."""
    for seed in range(histories):
        history = History.random(seed, turns)
        if goes_wrong(history, connection):
            smallest = history.shrunk(connection)
            print(f"History {seed} goes wrong, and so does {smallest}")  # noqa: T201
            smallest.play(connection)


def test_random_histories_are_sound_and_come_to_rest(connection: Connection) -> None:
    walk(connection, histories=25, turns=60)


@pytest.mark.slow
def test_many_long_random_histories_are_sound_and_come_to_rest(connection: Connection) -> None:
    walk(connection, histories=200, turns=120)
