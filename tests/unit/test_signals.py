"""Events in process: every move has one, and receivers cannot hurt each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tasker.domain.errors import NotFound
from tasker.domain.states import STEP_MOVES, TASK_MOVES
from tasker.events.catalogue import EVENT_NAMES, Event, event_of
from tasker.events.signals import emit, off, on, wanted


def move(source: str | None, target: str, *, step: bool = True) -> dict[str, Any]:
    return {
        "seq": 1,
        "task_id": "t",
        "template": "a/b",
        "step_id": 1 if step else None,
        "step": "s" if step else None,
        "from": source,
        "to": target,
        "attempt": None,
        "at": "2030-01-01T00:00:00+00:00",
        "actor": None,
        "reason": None,
    }


@pytest.mark.parametrize("row", [*STEP_MOVES, *TASK_MOVES])
def test_every_move_means_an_event(row: Any) -> None:
    assert event_of(move(row.source, row.target, step=row in STEP_MOVES)).name in EVENT_NAMES


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    events: list[Event] = []

    @on("step.completed")
    def hear(event: Event) -> None:
        events.append(event)

    yield events
    off("step.completed", hear)


def test_a_receiver_gets_its_event(heard: list[Event]) -> None:
    emit([move("in_progress", "complete"), move("in_progress", "error")])
    assert [(event.name, event.step, event.to_state) for event in heard] == [
        ("step.completed", "s", "complete")
    ]


def test_a_receiver_that_raises_is_logged_and_hurts_nobody(
    heard: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError(event.name)

    on("step.completed")(broken)
    try:
        with caplog.at_level(logging.ERROR):
            emit([move("in_progress", "complete")] * 2)
    finally:
        off("step.completed", broken)
    assert len(heard) == 2
    assert "of step.completed failed" in caplog.text


def test_moves_are_wanted_only_while_somebody_listens() -> None:
    def hear(event: Event) -> None: ...

    assert not wanted()
    on("task.failed")(hear)
    assert wanted()
    off("task.failed", hear)
    assert not wanted()


def test_an_unknown_event_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NotFound, match=r"did you mean 'step\.completed'"):
        on("step.complete")
