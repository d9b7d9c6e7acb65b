"""Random graphs, workers, losses and operators: the database is sound at every point and comes to rest.

Hypothesis writes the histories; one that goes wrong is made as short as it goes, and printed as a program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, NamedTuple, TypeAlias, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.chance import SEED
from tests.sql.protocol import QUEUE, Connection, Protocol, Row, keep
from tests.sql.simulation import SLOW, World

Graph: TypeAlias = list[set[int]]

FORGET = """
    truncate tasker.templates, tasker.template_steps, tasker.template_edges, tasker.tasks, tasker.steps,
        tasker.step_edges, tasker.step_attempts, tasker.transitions, tasker.workers, tasker.queues,
        tasker.handlers, tasker.coordinator_loops, tasker.dead_letters restart identity
"""
STEPS = 12
"""Of the largest graph."""

QUEUES = st.sampled_from([QUEUE, SLOW])
RARELY = st.sampled_from([False, False, False, True])
WORKERS = st.integers(0, 1)
KINDS = st.lists(
    st.sampled_from(["complete", "complete", "complete", "retry", "permanent"]), min_size=3, max_size=3
)
OFFERS = st.sampled_from([keep(), keep(budget_ms=1), keep(queue=SLOW), keep(most=2), None])


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """The parents of each step; parents come first."""
    size, most = draw(st.integers(2, STEPS)), draw(st.integers(1, 4))
    return [
        draw(st.sets(st.integers(0, number - 1), max_size=most)) if number else set()
        for number in range(size)
    ]


def some(of: Callable[[World], Sequence[int]], most: int = 4) -> Any:
    """A turn's argument: one or a few of what there is."""
    return st.runner().flatmap(
        lambda machine: st.lists(st.sampled_from(of(machine.world)), min_size=1, max_size=most, unique=True)
    )


class Turn(NamedTuple):
    """Something that may happen in a history."""

    share: float
    """How often it is chosen, compared to the others: tasks get somewhere before they are disturbed."""
    when: Callable[[World], Sized]
    """What there has to be."""
    arguments: Mapping[str, st.SearchStrategy[Any]]


TURNS: dict[str, Turn] = {}

Act = TypeVar("Act", bound=Callable[..., None])


def turn(
    share: float, when: Callable[[World], Sized] = lambda world: world.tasks, **arguments: Any
) -> Callable[[Act], Act]:
    """A method of Histories that is one of the turns."""

    def register(act: Act) -> Act:
        TURNS[act.__name__] = Turn(share, when, arguments)
        return act

    return register


def turns(machine: Histories) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """The next turn with its arguments. Rules would be chosen evenly, and most left out of a history."""
    weighted = [
        name for name, it in TURNS.items() if it.when(machine.world) for _ in range(round(it.share * 2))
    ]
    return st.sampled_from(weighted).flatmap(
        lambda name: st.tuples(st.just(name), st.fixed_dictionaries(dict(TURNS[name].arguments)))
    )


def messages(world: World) -> list[int]:
    return sorted(set(world.messages))


def running(world: World) -> list[int]:
    return sorted(world.running)


def busy(world: World) -> list[int]:
    """The live workers that hold something."""
    held = {it.worker for it in world.running.values()}
    return [number for number, worker in enumerate(world.workers) if worker in held]


def fenced(world: World) -> range:
    return range(len(world.fenced))


def claims(world: World) -> list[int]:
    """Those of live workers."""
    return [number for number, claim in enumerate(world.claims) if claim.worker in world.workers]


def reports(world: World) -> range:
    return range(len(world.reports))


def steps(world: World) -> list[int]:
    return list(world.rows())


def failed_first(world: World) -> list[int]:
    """All steps, the failed ones first."""
    rows = world.rows()
    return sorted(rows, key=lambda step: rows[step]["state"] != "error")


def tasks(world: World) -> range:
    return range(len(world.tasks))


class Histories(RuleBasedStateMachine):
    """What may happen, in any order; arguments are step ids, or places in the lists of the world."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        connection.execute(FORGET)
        self.world = World(Protocol(connection))

    @initialize(graph=graphs(), copies=st.integers(1, 2))
    def begin(self, graph: Graph, copies: int) -> None:
        self.graph = graph
        self.world.submit(graph, copies, delay=0, joined=False)

    @turn(3, seconds=st.sampled_from([0, 1, 3, 40]))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @turn(3, delay=st.sampled_from([0, 0, 30]), joined=st.booleans())
    def submit(self, *, delay: int, joined: bool) -> None:
        self.world.submit(self.graph, 1, delay=delay, joined=joined)

    # Workers

    @turn(30, messages, steps=some(messages, 8), worker=WORKERS, doubled=RARELY)
    def deliver(self, *, steps: list[int], worker: int, doubled: bool) -> None:
        self.world.deliver(steps, self.world.workers[worker])
        for step in () if doubled else steps:
            self.world.messages.remove(step)

    @turn(2, claims, claims=some(claims, 1))
    def claim_late(self, claims: list[int]) -> None:
        self.world.claim(self.world.claims[claims[0]])

    @turn(30, running, steps=some(running, 8), kinds=KINDS, offer=OFFERS)
    def finish(self, steps: list[int], kinds: list[str], offer: Row | None) -> None:
        worker = self.world.running[steps[0]].worker
        own = [held.attempt for held in map(self.world.running.get, steps) if held and held.worker == worker]
        alive = worker in self.world.workers
        self.world.finish(worker, list(zip(own, kinds * 3, strict=False)), offer if alive else None)

    def held_by(self, worker: int) -> list[Any]:
        """The attempts that a live worker has under way."""
        own = self.world.workers[worker]
        return [held.attempt for held in self.world.running.values() if held.worker == own]

    @turn(2, fenced, attempts=some(fenced), kinds=KINDS, worker=WORKERS, offer=OFFERS, own=st.booleans())
    def finish_late(
        self, *, attempts: list[int], kinds: list[str], worker: int, offer: Row | None, own: bool
    ) -> None:
        """Attempts that somebody else has ended, alone or along with what the worker has under way."""
        late = [self.world.fenced[it] for it in attempts] + (self.held_by(worker) if own else [])
        self.world.finish(self.world.workers[worker], list(zip(late, kinds * len(late), strict=False)), offer)

    @turn(2, reports, reports=some(reports, 1))
    def finish_again(self, reports: list[int]) -> None:
        self.world.send_again(self.world.reports[reports[0]])

    @turn(2, running, steps=some(running))
    def release(self, steps: list[int]) -> None:
        self.world.release(steps)

    @turn(1, fenced, attempts=some(fenced))
    def release_late(self, attempts: list[int]) -> None:
        self.world.release_late([self.world.fenced[it] for it in attempts])

    @turn(3, busy, workers=some(busy, 1))
    def lose_worker(self, workers: list[int]) -> None:
        self.world.stop(self.world.workers[workers[0]])

    # The broker and coordinators

    @turn(2, messages, steps=some(messages))
    def lose_messages(self, steps: list[int]) -> None:
        self.world.lose(steps)

    @turn(3, seconds=st.sampled_from([6, 200]))
    def republish(self, seconds: int) -> None:
        self.world.republish(seconds)

    @turn(5)
    def recover(self) -> None:
        self.world.recover()

    @turn(2)
    def expire(self) -> None:
        self.world.expire()

    @turn(2, running, steps=some(running))
    def time_out(self, steps: list[int]) -> None:
        self.world.time_out(steps)

    # Operators

    @turn(2, queue=QUEUES, paused=RARELY)
    def pause_queue(self, *, queue: str, paused: bool) -> None:
        (self.world.pause_queue if paused else self.world.resume_queue)(queue)

    @turn(1, queue=QUEUES, closed=RARELY)
    def gate(self, *, queue: str, closed: bool) -> None:
        (self.world.session.close_gate if closed else self.world.session.open_gate)(queue)

    @turn(2, tasks=some(tasks, 1), paused=RARELY)
    def pause(self, *, tasks: list[int], paused: bool) -> None:
        (self.world.pause if paused else self.world.resume)(self.world.tasks[tasks[0]])

    @turn(1, steps=some(steps, 2))
    def skip(self, steps: list[int]) -> None:
        self.world.skip(steps)

    @turn(1, steps=some(steps, 2), with_results=st.booleans())
    def resolve(self, *, steps: list[int], with_results: bool) -> None:
        self.world.resolve(steps, {step: {"by hand": step} for step in steps} if with_results else None)

    @turn(2, steps=some(failed_first))
    def retry(self, steps: list[int]) -> None:
        self.world.retry(steps)

    @turn(1, steps=some(steps, 3))
    def park(self, steps: list[int]) -> None:
        self.world.park(steps)

    @turn(0.5, tasks=some(tasks, 1))
    def cancel(self, tasks: list[int]) -> None:
        self.world.cancel(self.world.tasks[tasks[0]])

    # What must hold

    @rule(turn=st.runner().flatmap(turns))
    def then(self, turn: tuple[str, dict[str, Any]]) -> None:
        name, arguments = turn
        getattr(self, name)(**arguments)

    @invariant()
    def sound(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        # called even after something has gone wrong, which must not be hidden by what that leads to
        if sys.exc_info()[0] is None:
            self.world.come_to_rest()


def play(connection: Connection, *, histories: int, length: int) -> None:
    """Histories that are always the same, and others for each SEED."""

    def begin() -> Histories:
        return Histories(connection)

    print(f"SEED={SEED}")  # noqa: T201 - pytest shows it
    run_state_machine_as_test(
        seed(SEED)(begin) if SEED else begin,
        settings=settings(
            max_examples=histories,
            stateful_step_count=length,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_histories_are_sound_and_come_to_rest(connection: Connection) -> None:
    play(connection, histories=24, length=50)


@pytest.mark.slow
def test_many_long_random_histories_are_sound_and_come_to_rest(connection: Connection) -> None:
    play(connection, histories=200, length=120)
