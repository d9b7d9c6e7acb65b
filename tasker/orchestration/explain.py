"""Why a task does not go on, in words: one sentence for each unfinished step, the ones to act on first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tasker.db import diagnosis, holds, queries
from tasker.domain.durations import duration
from tasker.domain.errors import TaskNotFound
from tasker.domain.states import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from tasker.db.diagnosis import WorkerPlaces
    from tasker.db.functions import Connection
    from tasker.domain.records import Hold, Readiness

SILENT_COORDINATOR_SECONDS = 15.0
"""Loops run at least every few seconds; when none has for this long, nobody runs them."""

STEPS_ALIKE = 5
"""So many steps that wait for the same kind of thing get a sentence of their own, the others one together."""

NAMES_SHOWN = 3
MESSAGE_SHOWN = 120

SENTENCES = {
    "failed": "{name} failed ({error}); repair the cause, then `tasker step retry {task}/{name}`",
    "worker_lost": "{name} failed: the workers that ran it died; look into their logs, then "
    "`tasker step retry {task}/{name}`",
    "unclaimable": "{name} failed: its message was sent {sent} times and no worker claimed it; look into the "
    "logs of the workers of queue `{queue}`, then `tasker step retry {task}/{name}`",
    "deadline": "{name} was ended: the deadline of the task passed; `tasker task retry {task}` lets it go on "
    "without one",
    "start_timeout": "{name} failed: no worker began it in the time it may wait; are there enough of queue "
    "`{queue}`? then `tasker step retry {task}/{name}`",
    "parked": "{name} was parked ({error}); `tasker step retry {task}/{name}` puts it back",
    "wake_up_lost": "{name} could run, but nothing will start it, a defect; `tasker doctor` says more",
    "no_worker_for_queue": "{name} is {state} on queue `{queue}`, but no live worker serves that queue; "
    "start one with `tasker -A MODULE worker --queues {queue}`",
    "no_worker_for_handler": "{name} may run on queue `{queue}`, but no live worker there has handler "
    "`{handler}`; start one whose module registers it",
    "worker_stopped": "{name} was running {place}, which has stopped; a coordinator gives it to another",
    "overdue": "{name} waits for {event}, {due}; a coordinator starts it",
    "undispatched": "{name} is held no longer; a coordinator enqueues it",
    "queue_paused": "{name} is held: queue `{queue}` was paused {held}; "
    "`tasker queue resume {queue}` lets it go on",
    "queue_gated": "{name} waits its turn: queue `{queue}` has enough published, and {line} for room, "
    "by priority, then age",
    "task_paused": "{name} is held: the task is paused",
    "given_back": "{name} was given back by a worker that lacks handler `{handler}`; offered again {due}",
    "running": "{name} has been running for {since} of at most {limit} (attempt {attempt}) {place}",
    "message_out": "{name} has been enqueued on queue `{queue}` for {since}{again}; {served}",
    "back_off": "{name} waits for a retry, {due} ({error})",
    "timer": "{name} waits for its time, {due}",
    "task_not_started": "{name} starts with its task, {due}",
    "parent_failed": "{name} waits for its parents: {parents}; a failed one has to be repaired first",
    "parents_open": "{name} waits for its parents: {parents}",
}
"""By the decisive blocking reason of `step_readiness`, the most urgent first."""

_URGENCY = {code: place for place, code in enumerate(SENTENCES)}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step has not finished; `text`, which is also its str(), says what to do where something is.

    `codes` are the blocking reasons of `step_readiness`, the decisive one first. `step` and `state` are None
    for a sentence about several steps, about the task (`task_paused`) and the system (`no_coordinator`).
    """

    step: str | None
    state: str | None
    codes: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def why(connection: Connection, task: UUID, step: str | None = None) -> list[Reason]:
    """What each unfinished step of a task waits for, or only `step`; [] when nothing is unfinished.

    Many steps that wait alike share a sentence. Raises TaskNotFound, StepNotFound.
    """
    rows = diagnosis.step_readiness(connection, [task])
    if not rows:
        raise TaskNotFound(f"no task {task}; see `tasker task list`")
    if step is not None:
        known = queries.get_step(connection, task, step)
        rows = [row for row in rows if row.step_id == known.id]
    unfinished = sorted((row for row in rows if row.blocking_reasons), key=_urgency)
    paused = holds.queue_holds(connection, list({row.queue for row in unfinished}))
    out = {row.queue for row in unfinished if row.blocking_reasons[0] == "message_out"}
    workers = diagnosis.worker_places(connection, list(out)) if out else []
    served = {queue: _served([each for each in workers if queue in each.queues]) for queue in out}
    gated = {row.queue for row in unfinished if row.blocking_reasons[0] == "queue_gated"}
    lines = holds.held_steps(connection, list(gated)) if gated else {}
    reasons = [
        Reason(row.name, row.state, tuple(row.blocking_reasons), _sentence(row, paused, served, lines))
        for row in unfinished
    ]
    return [
        *_missing_coordinator(connection, unfinished),
        *_paused_task(connection, unfinished),
        *_collapsed(reasons),
    ]


def _urgency(row: Readiness) -> int:
    return _URGENCY[row.blocking_reasons[0]]


def _sentence(
    row: Readiness, paused: Mapping[str, Hold], served: Mapping[str, str], lines: Mapping[str, int]
) -> str:
    sentence = SENTENCES[row.blocking_reasons[0]].format(
        name=row.name,
        task=row.task_id,
        state=row.state,
        queue=row.queue,
        handler=row.handler,
        attempt=row.attempt,
        sent=row.republished + 1,
        error=_failure(row),
        place=f"on {row.worker_host}, process {row.worker_pid}",
        event="a retry" if row.next_retry_at is not None else "its time",
        due=_due(row.due_at, row.at),
        limit=duration(row.timeout_ms / 1000),
        since=duration((row.at - row.since).total_seconds()),
        again=f", its message sent again {_times(row.republished)}" if row.republished else "",
        parents=_parents(row),
        held=held(paused.get(row.queue), row.at),
        served=served.get(row.queue, ""),
        line=_line(lines.get(row.queue, 1)),
    )
    return sentence + _letter(row)


def _letter(row: Readiness) -> str:
    if row.letter_id is None:
        return ""
    since = duration((row.at - row.since).total_seconds())
    return f"; dead letter {row.letter_id}: {row.failed_because}, {since} ago, fingerprint {row.fingerprint}"


def _failure(row: Readiness) -> str:
    message = (row.error_message or "").strip().partition("\n")[0]
    shown = message if len(message) <= MESSAGE_SHOWN else f"{message[:MESSAGE_SHOWN]}…"
    if row.failed_because == "parked":
        return shown
    kind = (row.error_type or "no error recorded").rpartition(".")[2]
    return f"failure {row.failures} of {row.max_attempts}: {kind}{f': {shown}' if shown else ''}"


def _due(due: datetime | None, at: datetime) -> str:
    if due is None:
        return "at no set time"
    seconds = (due - at).total_seconds()
    return f"due in {duration(seconds)}" if seconds > 0 else f"due {duration(-seconds)} ago"


def held(hold: Hold | None, at: datetime) -> str:
    """Since when as of `at`, by whom and why; nothing for nobody."""
    if hold is None:
        return ""
    by = f" by {hold.by}" if hold.by else ""
    because = f" ({hold.because})" if hold.because else ""
    return f"{duration((at - hold.since).total_seconds())} ago{by}{because}"


def _parents(row: Readiness) -> str:
    shown = [f"{parent.name} ({parent.state})" for parent in row.blocking_parents[:NAMES_SHOWN]]
    more = row.parents_total - row.parents_satisfied - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _served(workers: Sequence[WorkerPlaces]) -> str:
    """What the live workers of a queue are about, as far as that says why nobody takes a message of it."""
    if not all(worker.full for worker in workers):
        return "live workers serve it"
    running = sorted(
        (pair for worker in workers for pair in zip(worker.seconds, worker.steps, strict=True)), reverse=True
    )
    places = sum(max(worker.children, len(worker.steps)) for worker in workers)
    shown = [f"{step} for {duration(seconds)}" for seconds, step in running[:NAMES_SHOWN]]
    if len(running) > NAMES_SHOWN:
        shown.append(f"{len(running) - NAMES_SHOWN} more steps")
    if len(running) < places or not running:
        shown.append(
            f"{places - len(running) or 'all'} with handlers of ended attempts, or other Celery tasks"
        )
    number = "the place" if places == 1 else f"all {places} places" if places else "all places"
    return f"{number} of the workers that serve it {'is' if places == 1 else 'are'} busy: {', '.join(shown)}"


def _line(steps: int) -> str:
    return "1 step waits" if steps == 1 else f"{steps:,} steps wait".replace(",", " ")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _collapsed(reasons: Sequence[Reason]) -> Iterator[Reason]:
    for code, group in groupby(reasons, key=lambda reason: reason.codes[0]):
        alike = list(group)
        yield from alike[:STEPS_ALIKE]
        rest = [reason.step or "" for reason in alike[STEPS_ALIKE:]]
        if rest:
            names = ", ".join(rest[:NAMES_SHOWN]) + (", …" if len(rest) > NAMES_SHOWN else "")
            steps = "1 more step" if len(rest) == 1 else f"{len(rest)} more steps"
            yield Reason(None, None, (code,), f"{steps} likewise: {names}")


def _paused_task(connection: Connection, unfinished: Sequence[Readiness]) -> Iterator[Reason]:
    """Who has paused the task, whatever its steps do."""
    for row in unfinished[:1]:
        hold = holds.task_hold(connection, row.task_id)
        if hold is not None:
            text = (
                f"the task was paused {held(hold, row.at)}; `tasker task resume {row.task_id}` lets it go on"
            )
            yield Reason(None, None, ("task_paused",), text)


def _missing_coordinator(connection: Connection, unfinished: Sequence[Readiness]) -> Iterator[Reason]:
    """Whether the loops are missing that some of these steps need, or may come to need."""
    if not any(row.state in ACTIVE for row in unfinished):
        return
    seconds = diagnosis.seconds_since_coordinator(connection)
    if seconds is None or seconds > SILENT_COORDINATOR_SECONDS:
        seen = (
            "no coordinator was ever seen"
            if seconds is None
            else f"no coordinator seen for {duration(seconds)}"
        )
        yield Reason(
            None,
            None,
            ("no_coordinator",),
            f"{seen}: retries, timers, held steps, and steps of dead workers do not move; "
            "start a worker, or `tasker coordinator`",
        )
