"""Draw the parts of the documentation that are made from code; `--check` only says which are stale.

A drawn part stands between `<!-- drawn: NAME -->` and `<!-- end -->` and is replaced whole.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasker.domain.states import (
    ACTIVE,
    OPEN,
    SATISFYING,
    STEP_FINAL,
    STEP_MOVES,
    TASK_FINAL,
    TASK_MOVES,
    TASK_SETTLED,
    Move,
    StepState,
    TaskState,
)
from tasker.events.catalogue import STEP_EVENTS, TASK_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOT = Path(__file__).resolve().parent.parent
DRAWN = re.compile(r"(<!-- drawn: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

STEP_MEANINGS = {
    "pending": "a parent is not satisfied yet",
    "ready": "may run, not offered yet: held, waiting for room, given back, or new in your transaction",
    "enqueued": "offered: its message is out",
    "in_progress": "a worker has claimed it",
    "waiting_for_retry": "an attempt failed, the next one has a time",
    "waiting": "its task starts later",
    "complete": "its result is stored",
    "skipped": "declared not needed; its children get None for it",
    "error": "failed for good; an operator can retry it",
    "cancelled": "its task was cancelled",
    "resolved_manually": "declared done elsewhere, without a result",
}
TASK_MEANINGS = {
    "pending": "submitted with a `run_after` that is still to come",
    "in_progress": "at least one step can move by itself",
    "paused": "held by an operator",
    "complete": "every step is complete, skipped or resolved",
    "error": "a step failed, and nothing can move by itself any more",
    "cancelled": "ended by an operator or the application, with all its open steps",
    "resolved_manually": "declared done by an operator, with all its open steps",
}
STEP_EVENT_MEANINGS = {
    "parents_satisfied": "the last parent was satisfied",
    "dispatch": "no longer held, and its turn",
    "claim": "won by a worker: an attempt begins",
    "hold": "found held at the claim, or the worker lacks its handler",
    "park": "its message was published again five times, and never claimed",
    "complete": "the handler returned",
    "retry_later": "the handler failed, attempts are left",
    "fail": "the handler failed for good",
    "release": "given back by its worker before it was begun",
    "lose": "its worker died; `error` after too many",
    "due": "its time has come",
    "miss_start": "no worker began it within its `start_within_seconds`",
    "expire": "the deadline of its task passed",
    "park_by_hand": "taken out",
    "retry": "another go, counted from zero; `pending` while a parent is open",
    "skip": "not needed",
    "resolve": "done elsewhere, no result",
    "complete_by_hand": "done elsewhere, with a result",
    "cancel": "its task was cancelled",
}
TASK_EVENT_MEANINGS = {
    "start": "its `run_after` has come",
    "pause": "nothing of it is to be claimed any more",
    "resume": "goes on",
    "settle": "nothing is open (`complete`), or nothing can move by itself and a step failed (`error`)",
    "revive": "a failed step was retried, skipped or resolved, and the task can go on",
    "cancel": "ended, with every open step",
    "resolve": "declared done, with every open step",
}
WHEN = {
    "task.created": "submitted",
    "task.started": "its `run_after` has come",
    "task.paused": "held by an operator",
    "task.resumed": "goes on after a pause",
    "task.retried": "goes on after `error`",
    "task.completed": "every step is complete, skipped or resolved",
    "task.failed": "a step failed, and nothing can move by itself any more",
    "task.cancelled": "cancelled, its open steps with it",
    "task.resolved": "declared done by an operator",
    "step.enqueued": "offered to the workers of its queue",
    "step.unparked": "retried while a parent is open",
    "step.held": "may run, not offered yet",
    "step.waiting": "waits for its task's `run_after`",
    "step.started": "claimed by a worker: an attempt begins",
    "step.returned": "given back unbegun, or its worker died",
    "step.retry_scheduled": "an attempt failed, the next one has a time",
    "step.completed": "its result is stored",
    "step.failed": "failed for good",
    "step.skipped": "declared not needed",
    "step.cancelled": "its task was cancelled",
    "step.resolved": "declared done elsewhere",
}


def diagram(moves: Iterable[Move], first: str, finals: Iterable[str]) -> str:
    """A Mermaid state diagram with one arrow for each pair of states."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for move in moves:
        arrows.setdefault((move.source, move.target), []).append(move.event)
    drawn = {state for pair in arrows for state in pair}
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [
        f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()
    ]
    lines += [f"    {state} --> [*]" for state in sorted(finals) if state in drawn]
    return "\n".join([*lines, "```"])


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; `head` is its first line."""
    rule = re.sub(r"[^|]+", "---", head)
    return "\n".join([head, rule, *(f"| {' | '.join(row)} |" for row in rows)])


def moves_table(moves: tuple[Move, ...], meanings: dict[str, str]) -> str:
    """One row for each event: from where, to where, by whom."""
    return table(
        "| event | from | to | by | meaning |",
        (
            (
                f"`{event}`",
                _sources([move.source for move in moves if move.event == event]),
                _names(move.target for move in moves if move.event == event),
                ", ".join(_by(move for move in moves if move.event == event)),
                meanings[event],
            )
            for event in dict.fromkeys(move.event for move in moves)
        ),
    )


def steps_diagram() -> str:
    """The moves that need nobody: operators' moves are in the table."""
    alone = [move for move in STEP_MOVES if move.by != "operator"]
    return diagram(alone, "pending", STEP_FINAL)


def tasks_diagram() -> str:
    """Every move of tasks."""
    return diagram(TASK_MOVES, "in_progress\n    [*] --> pending", TASK_FINAL)


def steps_table() -> str:
    """Every state of a step, and how its task counts it."""
    counts = (("open", OPEN), ("active", ACTIVE), ("failed", {"error"}), ("satisfies children", SATISFYING))
    return table(
        "| state | meaning | counted as |",
        (
            (
                _starred(state, STEP_FINAL),
                STEP_MEANINGS[state],
                ", ".join(name for name, states in counts if state in states),
            )
            for state in StepState
        ),
    )


def tasks_table() -> str:
    """Every state of a task."""
    return table(
        "| state | meaning | settled |",
        (
            (_starred(state, TASK_FINAL), TASK_MEANINGS[state], "yes" if state in TASK_SETTLED else "")
            for state in TaskState
        ),
    )


def events_table() -> str:
    """Every event, and the moves it is told for."""
    told: dict[str, list[str]] = {}
    for events in (TASK_EVENTS, STEP_EVENTS):
        for (source, target), event in events.items():
            before = _before(source, alone=_is_only(events, target))
            told.setdefault(event, []).append(f"{before} → `{target}`")
    return table(
        "| event | from → to | when |",
        ((f"`{event}`", ", ".join(moves), WHEN[event]) for event, moves in told.items()),
    )


PARTS: dict[str, Callable[[], str]] = {
    "step-diagram": steps_diagram,
    "step-states": steps_table,
    "step-moves": lambda: moves_table(STEP_MOVES, STEP_EVENT_MEANINGS),
    "task-diagram": tasks_diagram,
    "task-states": tasks_table,
    "task-moves": lambda: moves_table(TASK_MOVES, TASK_EVENT_MEANINGS),
    "events": events_table,
}


def drawn(text: str) -> str:
    """The page with every drawn part made anew. Raises KeyError for a part nobody draws."""
    return DRAWN.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n\n{found[3]}", text)


def main() -> int:
    """Rewrite the stale pages, or with `--check` name them and fail."""
    pages = {page: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}
    missing = PARTS.keys() - {found["name"] for text in pages.values() for found in DRAWN.finditer(text)}
    stale = [page for page, text in pages.items() if drawn(text) != text]
    for page in stale:
        print(f"{page.relative_to(ROOT)} is stale; .ci/pages.py draws it anew")
        if "--check" not in sys.argv:
            page.write_text(drawn(pages[page]))
    if missing:
        print(f"no page shows {', '.join(sorted(missing))}")
    return 1 if missing or (stale and "--check" in sys.argv) else 0


def _sources(states: list[str]) -> str:
    if set(states) == set(OPEN):
        return "any not final"
    if set(states) == set(OPEN) - {"in_progress"}:
        return "any not final but `in_progress`"
    return _names(states)


def _names(states: Iterable[str]) -> str:
    return ", ".join(f"`{state}`" for state in dict.fromkeys(states))


def _starred(state: str, finals: Iterable[str]) -> str:
    return f"`{state}`*" if state in finals else f"`{state}`"


def _by(moves: Iterable[Move]) -> Iterable[str]:
    return dict.fromkeys(who for move in moves for who in move.by.split(", "))


def _before(source: str | None, *, alone: bool) -> str:
    if source is None:
        return "new"
    if source == "*":
        return "any" if alone else "any other"
    return f"`{source}`"


def _is_only(events: Mapping[tuple[Any, str], str], target: str) -> bool:
    return sum(to == target for _, to in events) == 1


if __name__ == "__main__":
    sys.exit(main())
