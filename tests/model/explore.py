"""Visits every state that can be reached, breadth first, and looks for a way out of each.

A state is good when every rule of invariants.py holds. The whole is good when, besides, a settled task can be
reached from every state by what happens without faults and operators: in a system that does each thing it may
do some day, the task then does settle.
"""

from __future__ import annotations

import gc
import inspect
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any, NamedTuple

from tests.model.actions import Action, undisturbed
from tests.model.database import Broken
from tests.model.disturbances import disturbing
from tests.model.invariants import is_settled, violated
from tests.model.world import Call, Case, State, World, letter


class Explored(NamedTuple):
    """What was found: nothing wrong when `wrong` is empty, else `trace` leads to it."""

    case: Case
    states: int
    transitions: int
    seconds: float
    actions: frozenset[str]
    """The names of those that happened."""
    wrong: str = ""
    trace: tuple[str, ...] = ()


class Exploration:
    """The states of a case, numbered as they are found."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []
        self._parents = array("l")
        self._transitions = 0
        self._actions: set[str] = set()
        self._undisturbed = (array("l"), array("l"))
        """From and to, of the transitions that need no fault and no operator."""

    def run(self) -> Explored:
        """Visit all; stops at the first state in which something is wrong."""
        began = time.process_time()
        wrong, last = "", 0
        trace: tuple[str, ...] = ()
        gc.disable()  # nothing here is circular, and the collector would visit all states again and again
        try:
            self._add(World.first(self._case).freeze(), parent=-1)
            for number, state in enumerate(self._states):
                last = number
                self._visit(number, state)
        except Broken as error:
            wrong, trace = str(error), self._trace(last, str(error))
        finally:
            gc.enable()
        if not wrong and (stuck := self._stuck()) is not None:
            wrong = "from here the task can never settle"
            trace = (*self._trace(stuck, wrong), *self._for_ever(stuck))
        return Explored(
            case=self._case,
            states=len(self._states),
            transitions=self._transitions,
            seconds=time.process_time() - began,
            actions=frozenset(self._actions),
            wrong=wrong,
            trace=trace,
        )

    def _visit(self, number: int, state: State) -> None:
        before = World.thaw(self._case, state)
        for action in undisturbed(before):
            self._undisturbed[0].append(number)
            self._undisturbed[1].append(self._follow(number, state, action))
        for action in disturbing(before):
            self._follow(number, state, action)

    def _follow(self, number: int, state: State, action: Action) -> int:
        """The number of the state to which the action leads. Raises Broken."""
        world = World.thaw(self._case, state)
        action.run(world, *action.arguments)
        self._transitions += 1
        self._actions.add(action.run.__name__)
        after = world.freeze()
        found = self._numbers.get(after)
        if found is None:
            if wrong := violated(world):
                raise Broken(wrong)
            found = self._add(after, parent=number)
        return found

    def _add(self, state: State, parent: int) -> int:
        number = self._numbers[state] = len(self._states)
        self._states.append(state)
        self._parents.append(parent)
        return number

    def _stuck(self) -> int | None:
        """The first state from which no settled one can be reached undisturbed."""
        before: list[list[int]] = [[] for _ in self._states]
        for source, target in zip(*self._undisturbed, strict=True):
            before[target].append(source)
        out = bytearray(len(self._states))
        ahead = [number for number, state in enumerate(self._states) if is_settled(*state[1])]
        while ahead:
            number = ahead.pop()
            if not out[number]:
                out[number] = 1
                ahead += before[number]
        stuck = out.find(0)
        return None if stuck < 0 else stuck

    def _trace(self, number: int, wrong: str) -> tuple[str, ...]:
        """What led to the state, in words; then the action that broke something in it, if one did."""
        path = []
        while number > 0:
            path.append(self._states[number])
            number = self._parents[number]
        world = World.first(self._case)
        lines = [show(world)]
        for state in reversed(path):
            ahead = followers(world, (*undisturbed(world), *disturbing(world)))
            action, world = next(it for it in ahead if it[1].freeze() == state)
            lines.append(f"{describe(action):<100} {show(world)}")
        for action in (*undisturbed(world), *disturbing(world)):
            after = deepcopy(world)
            try:
                action.run(after, *action.arguments)
                if after.freeze() not in self._numbers and violated(after) == wrong:
                    lines.append(f"{describe(action):<100} {show(after)}")
                    break
            except Broken as error:
                if str(error) == wrong:
                    lines.append(describe(action))
                    break
        return (*lines, f"=> {wrong}")

    def _for_ever(self, number: int) -> Iterator[str]:
        """What goes on undisturbed from a state, until it comes round."""
        world = World.thaw(self._case, self._states[number])
        seen = set()
        while (state := world.freeze()) not in seen:
            seen.add(state)
            yield show(world)
            after = list(followers(world, tuple(undisturbed(world))))
            if not after:
                yield "and nothing more can happen"
                return
            unseen = [it for it in after if it[1].freeze() not in seen]
            action, world = (unseen or after)[0]
            yield describe(action)
        yield "and so on"


def followers(world: World, actions: Iterable[Action]) -> Iterator[tuple[Action, World]]:
    """The actions that break nothing, each with the world that it leads to."""
    for action in actions:
        after = deepcopy(world)
        with suppress(Broken):
            action.run(after, *action.arguments)
            yield action, after


def explore(case: Case) -> Explored:
    """Visit every state of a case."""
    return Exploration(case).run()


# Words


def show(world: World) -> str:
    """The states of the task and its steps."""
    steps = ", ".join(f"{letter(number)} {row.state}" for number, row in enumerate(world.steps))
    return f"[{world.task.state}: {steps}]"


def describe(action: Action) -> str:
    """The first line of the action's docstring with its arguments in words."""
    names = list(inspect.signature(action.run).parameters)[1:]
    words = {name: word(name, value) for name, value in zip(names, action.arguments, strict=True)}
    return inspect.cleandoc(action.run.__doc__ or "").splitlines()[0].format(**words)


def word(name: str, value: Any) -> str:
    """An argument of an action in words."""
    if name in ("child", "main"):
        return f"{name} {value + 1}"
    if name == "step":
        return letter(value)
    if name == "ids":
        return " and ".join(letter(step) for step in value)
    if isinstance(value, Call):
        of = " and ".join(letter(it if isinstance(it, int) else it[0]) for it in value.payload)
        whose = f" of child {value.child + 1}" if value.child >= 0 else " of a process that has a new row"
        late = "" if value.heard else ", to which nobody listens,"
        return f"{value.kind}_steps({of}){whose}{late}"
    return str(value)
