"""The table of moves as a machine: every state can be reached, and all but the final ones can be left."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.domain.states import (
    ACTIVE,
    OPEN,
    STEP_FINAL,
    STEP_MOVES,
    TASK_FINAL,
    TASK_MOVES,
    StepState,
    TaskState,
    machine,
)

TABLES = [
    pytest.param(STEP_MOVES, StepState, STEP_FINAL, ("pending", "waiting", "ready", "enqueued"), id="step"),
    pytest.param(TASK_MOVES, TaskState, TASK_FINAL, ("pending", "in_progress"), id="task"),
]


def exits(moves: Any, state: str) -> set[str]:
    state = str(state)  # transitions would take an enum member by its name
    built = machine(moves, initial=state)
    events = built.get_triggers(state)
    return {move.dest for event in events for move in built.get_transitions(event, source=state)}


@pytest.mark.parametrize(("moves", "states", "final", "beginnings"), TABLES)
def test_every_state_is_reached_from_where_submit_begins(
    moves: Any, states: Any, final: Any, beginnings: tuple[str, ...]
) -> None:
    reached: set[str] = set()
    ahead = set(beginnings)
    while ahead:
        reached |= ahead
        ahead = {target for state in ahead for target in exits(moves, state)} - reached
    assert reached == set(states)


@pytest.mark.parametrize(("moves", "states", "final", "beginnings"), TABLES)
def test_exactly_the_final_states_have_no_exit(
    moves: Any, states: Any, final: Any, beginnings: tuple[str, ...]
) -> None:
    assert {state for state in states if not exits(moves, state)} == set(final)


def test_what_is_active_is_open_and_what_failed_is_open_but_not_active() -> None:
    assert ACTIVE < OPEN
    assert {StepState.PENDING, StepState.ERROR} == OPEN - ACTIVE
