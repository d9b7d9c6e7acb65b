"""One state of the model: a task's rows in PostgreSQL, the processes, the calls and messages under way.

What the product numbers without end is left out, so that the states are finitely many. An attempt is known by
its claim id, which is fresh for each; claim ids that nobody remembers any more are all the same; there are no
clocks, a time that may come is an action that may happen. `freeze` makes states equal that differ only in the
names of children, mains and claims.

Steps, children and mains are numbered from 0; steps are called a, b, c in words. A `Held` step is one with
the claim under which it was won.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import Any, NamedTuple, TypeAlias

Ids: TypeAlias = tuple[int, ...]
Held: TypeAlias = tuple[int, int]
Outcome: TypeAlias = tuple[int, int, str]
State: TypeAlias = tuple[Any, ...]

GONE = -1
"""The worker of an attempt whose row is stopped and whose process, if it lives, has another row by now."""

MISSED = -2
"""The same, where only its main's row is stopped."""

SATISFYING = ("complete", "skipped", "resolved_manually")
FINAL = (*SATISFYING, "cancelled")
ACTIVE = ("ready", "enqueued", "in_progress", "waiting_for_retry")
SETTLED = ("complete", "error", "cancelled", "resolved_manually")


def letter(step: int) -> str:
    """The name of a step."""
    return "abcdefgh"[step]


@dataclass(frozen=True)
class Case:
    """A graph, the processes, and what may go wrong: any `budget` of the actions named in `faults`."""

    name: str
    parents: tuple[Ids, ...]
    """The parents of each step."""
    mains: Ids = (0, 0)
    """The main of each child."""
    faults: frozenset[str] = frozenset()
    budget: int = 0
    operators: frozenset[str] = frozenset()
    meddles: int = 0
    """How often operators do any of what `operators` names."""
    batched: bool = False
    """Whether steps that become ready together share a message."""
    poison: Ids = ()
    """Steps whose handler kills its process."""
    max_attempts: int = 2
    max_losses: int = 2
    without: str = ""
    """The rule of the protocol that this case breaks."""

    @cached_property
    def children(self) -> tuple[Ids, ...]:
        """The children of each step in the graph."""
        return tuple(
            tuple(child for child, needed in enumerate(self.parents) if step in needed)
            for step in range(len(self.parents))
        )

    @cached_property
    def symmetries(self) -> list[tuple[Ids, Ids]]:
        """The orders of children and mains in which the processes are the same as in this one."""
        return [
            (order, mains)
            for mains in permutations(range(max(self.mains) + 1))
            for order in permutations(range(len(self.mains)))
            if all(mains[self.mains[new]] == self.mains[old] for new, old in enumerate(order))
        ]


@dataclass(slots=True)
class Step:
    """A row of tasker.steps with its attempts; `open` and `done` count attempts without end and completed."""

    state: str
    left: int
    failures: int = 0
    losses: int = 0
    alone: bool = False
    claim: int = 0
    worker: int = GONE
    open: int = 0
    done: int = 0
    excused: bool = False
    """A fault has cost the step its message."""
    unheard: bool = False
    """Won by a call whose caller no longer listened: only the time limit of the attempt ends it."""


@dataclass(slots=True)
class Task:
    """The row of tasker.tasks."""

    state: str
    open: int
    active: int
    failed: int


@dataclass(slots=True)
class Child:
    """A process that runs handlers, and its row: `none` until it registers, `missed` when its main's was
    stopped and its own was not seen. When it died, its place is taken by another process."""

    life: str = "up"
    row: str = "none"
    unbegun: tuple[Held, ...] = ()
    running: Held | tuple[()] = ()
    finished: tuple[Outcome, ...] = ()


@dataclass(slots=True)
class Main:
    """A process with a heartbeat, and its row; `looked` is what a coordinator makes of its beats."""

    life: str = "up"
    row: str = "live"
    looked: str = ""


class Call(NamedTuple):
    """A call of claim_steps, finish_steps or release_steps on its way to the database or inside it."""

    kind: str
    child: int
    """Who called and, for the database, under which worker row."""
    claim: int
    payload: tuple[Any, ...]
    """The ids, or the outcomes."""
    keep: bool = False
    heard: bool = True
    """Whether the caller waits for the answer, and would repeat the call."""
    watchdog: bool = False
    """Called by the watchdog thread, while the child goes on."""
    seen: Any = ()
    """What a call found out before it acts: that its worker is not stopped, or what a broken rule reads."""


@dataclass(slots=True)
class World:
    """All of it; actions change it in place."""

    case: Case
    steps: list[Step]
    task: Task
    children: list[Child]
    mains: list[Main]
    calls: list[Call] = field(default_factory=list)
    messages: list[Ids] = field(default_factory=list)
    won: set[Held] = field(default_factory=set)
    """Which claims have won which steps."""
    begun: set[Held] = field(default_factory=set)
    """Which handlers were begun under which claims: the effects."""
    found: Ids = ()
    """The lost steps that a coordinator has seen and not yet locked."""
    budget: int = 0
    meddles: int = 0
    claims: int = 0
    full: bool = False
    """So much is published that the gate of the queue is closed."""

    @classmethod
    def first(cls, case: Case) -> World:
        """The task is submitted, its roots are published, the workers have started."""
        steps = [Step("pending" if needed else "enqueued", len(needed)) for needed in case.parents]
        roots = tuple(number for number, needed in enumerate(case.parents) if not needed)
        world = cls(
            case=case,
            steps=steps,
            task=Task("in_progress", len(steps), len(roots), 0),
            children=[Child(row="live") for _ in case.mains],
            mains=[Main() for _ in range(max(case.mains) + 1)],
            budget=case.budget,
            meddles=case.meddles,
        )
        world.publish(roots)
        return world

    def publish(self, ids: Ids) -> None:
        """Messages for these steps go out, together where they may travel together."""
        shared = tuple(step for step in ids if not self.steps[step].alone) if self.case.batched else ()
        self.messages += [shared] * bool(shared)
        self.messages += [(step,) for step in ids if step not in shared]
        for step in ids:
            self.steps[step].excused = False

    def fresh_claim(self) -> int:
        """A claim id that nobody has had."""
        self.claims += 1
        return self.claims

    def row_is_stopped(self, child: int) -> bool:
        """Whether a worker, or its main, is stopped."""
        return child < 0 or self.children[child].row in ("stopped", "missed")

    def leave_row(self, child: int) -> None:
        """A process gets a new row: what is open under the old one, which is stopped, is nobody's."""
        nobody = MISSED if self.children[child].row == "missed" else GONE
        self.children[child].row = "none"
        for step in self.steps:
            if step.worker == child:
                step.worker = nobody
        self.calls = [
            call._replace(child=nobody) if call.child == child and not call.heard else call
            for call in self.calls
        ]

    def tells(self, call: Call) -> Ids:
        """The steps of which the answer of a call says that they are the caller's."""
        if call.kind == "claim":
            return call.payload
        if call.kind == "finish" and call.keep:
            return self.children_of(call.payload)
        return ()

    def children_of(self, outcomes: tuple[Outcome, ...]) -> Ids:
        """The children, in the graph, of the steps that these outcomes complete."""
        of = self.case.children
        return tuple(sorted({it for step, _, kind in outcomes if kind == "complete" for it in of[step]}))

    def will_be_published(self, step: int) -> bool:
        """Whether a message of the step is out, or whoever has to send or claim it is at it."""
        return any(step in ids for ids in self.messages) or any(
            call.heard
            and (
                (call.kind == "claim" and step in call.payload)
                or (call.kind == "finish" and self.will_free(call, step))
                or (call.kind == "release" and self.steps[step].claim == call.claim and step in call.payload)
            )
            for call in self.calls
        )

    def will_free(self, call: Call, step: int) -> bool:
        """Whether a finish has recorded, or will record, a parent of the step, and so publish the step."""
        return any(
            kind == "complete"
            and step in self.case.children[parent]
            and self.steps[parent].claim == claim
            and self.steps[parent].state in ("in_progress", "complete")
            for parent, claim, kind in call.payload
        )

    # Freezing

    def freeze(self) -> State:
        """The state as a value; equal for worlds that differ in names only."""
        shapes = [self._shape(*symmetry) for symmetry in self.case.symmetries]
        least = min(shapes)
        named = self._live_claims()
        return min(
            self._form(order, mains, named)
            for (order, mains), shape in zip(self.case.symmetries, shapes, strict=True)
            if shape == least
        )

    def _shape(self, order: Ids, mains: Ids) -> tuple[Any, ...]:
        """What tells most children apart, whatever their claims are called."""
        of = [self.children[old] for old in order]
        return tuple(
            (it.row, it.life, it.unbegun[0][0] if it.unbegun else -1, it.running[:1], len(it.finished))
            for it in of
        ) + tuple(self.mains[old].life for old in mains)

    def _live_claims(self) -> set[int]:
        claims = {call.claim for call in self.calls}
        for call in self.calls:
            if call.kind == "finish":
                claims.update(claim for _, claim, _ in call.payload)
        for child in self.children:
            claims.update(claim for _, claim in child.unbegun)
            claims.update(child.running[1:])
            claims.update(claim for _, claim, _ in child.finished)
        return claims

    def _form(self, order: Ids, mains: Ids, named: set[int]) -> State:
        place = {old: new for new, old in enumerate(order)}
        place |= {GONE: GONE, MISSED: MISSED}
        names: dict[int, int] = {}

        def name(claim: int) -> int:
            return names.setdefault(claim, len(names) + 1) if claim in named else 0

        steps = tuple(
            (s.state, s.left, s.failures, s.losses, s.alone, name(s.claim), place[s.worker], s.open, s.done,
             s.excused, s.unheard)
            for s in self.steps
        )  # fmt: skip
        children = tuple(
            (
                it.life,
                it.row,
                tuple((step, name(claim)) for step, claim in it.unbegun),
                (it.running[0], name(it.running[1])) if it.running else (),
                tuple((step, name(claim), kind) for step, claim, kind in it.finished),
            )
            for it in [self.children[old] for old in order]
        )
        return (
            steps,
            (self.task.state, self.task.open, self.task.active, self.task.failed),
            children,
            tuple((it.life, it.row, it.looked) for it in [self.mains[old] for old in mains]),
            tuple(self._named_calls(place, name)),
            tuple(sorted(self.messages)),
            tuple(sorted((step, name(claim)) for step, claim in self.won if claim in named)),
            tuple(sorted((step, name(claim)) for step, claim in self.begun if claim in named)),
            self.found,
            self.budget,
            self.meddles,
            self.full,
        )

    def _named_calls(self, place: dict[int, int], name: Callable[[int], int]) -> Iterator[Call]:
        calls = [call._replace(child=place[call.child]) for call in self.calls]
        for call in sorted(calls, key=lambda it: (it.kind, it.child, it.heard, it.watchdog, str(it[3:]))):
            payload = call.payload
            if call.kind == "finish":
                payload = tuple((step, name(claim), kind) for step, claim, kind in payload)
            yield call._replace(claim=name(call.claim), payload=payload)

    @classmethod
    def thaw(cls, case: Case, state: State) -> World:
        """A world of its own that freezes to the state."""
        steps, task, children, mains, calls, messages, won, begun, found, budget, meddles, full = state
        return cls(
            case=case,
            steps=[Step(*row) for row in steps],
            task=Task(*task),
            children=[Child(*row) for row in children],
            mains=[Main(*row) for row in mains],
            calls=list(calls),
            messages=list(messages),
            won=set(won),
            begun=set(begun),
            found=found,
            budget=budget,
            meddles=meddles,
            claims=100,
            full=full,
        )
