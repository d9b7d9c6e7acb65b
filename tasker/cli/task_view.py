"""Tasks and steps as people see them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tasker.cli.options import MOST_LISTED
from tasker.cli.output import cell, note, print_fields, print_table
from tasker.domain.durations import duration

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from tasker.db.engine import Database
    from tasker.domain.records import AttemptRecord, DeadLetterRecord, StepRecord

SHORT = 60
"""Characters of a result or an error in a table on a terminal; `step show` and pipes have all of it."""

CUT = "…"


def print_task(database: Database, task_id: UUID) -> None:
    """Print a task and a table of its steps. Raises TaskNotFound."""
    from tasker.db import diagnosis, queries

    task = database.call(queries.get_task, task_id)
    status = database.call(diagnosis.task_execution_contexts, [task_id])[task_id]
    page = database.call(queries.step_page, task_id, limit=MOST_LISTED)
    steps = page.items
    results = database.call(queries.list_results, task_id, [step.name for step in steps])
    optional = {
        "run after": task.run_after if task.state == "pending" else None,
        "deadline": task.deadline_at if task.finished_at is None else None,
        "tags": ", ".join(task.tags),
        "initiator": task.initiator,
        "source system": task.source_system,
        "reason": task.reason,
        "idempotency key": task.idempotency_key,
    }
    print_fields(
        {
            "task": task.id,
            "template": f"{task.template}@{task.version}",
            "state": task.state,
            "status": status.execution_status,
            "created": task.created_at,
            "started": task.started_at,
            "finished": task.finished_at,
            "duration": time_taken(task.started_at, task.finished_at),
            **{name: value for name, value in optional.items() if value},
            "context": shortened(task.context),
        }
    )
    click.echo()
    rows = [
        (
            step.name,
            step.state,
            step.attempt or None,
            time_taken(step.started_at, step.finished_at),
            _ending(step, results),
        )
        for step in steps
    ]
    print_table(("STEP", "STATE", "ATTEMPT", "DURATION", "RESULT OR ERROR"), rows, nothing="no steps")
    if any(step.state == "error" for step in steps):
        note(f"`tasker task why {task_id}` says what to do about what failed")
    hint_at_more(task_id, [step.name for step, row in zip(steps, rows, strict=True) if is_cut(row[-1])])
    if page.next_cursor:
        left = task.steps_total - len(steps)
        note(f"{left} more steps: `tasker step list {task_id} --cursor {page.next_cursor}`")


def hint_at_more(task_id: UUID, steps: list[str]) -> None:
    """Say how to see all of what was cut, for the first of these steps."""
    if steps:
        note(f"`tasker step show {task_id}/{steps[0]}` prints what is cut here")


def is_cut(text: str) -> bool:
    """Whether this is what `shortened` has left of a longer text."""
    return len(text) == SHORT and text.endswith(CUT)


def print_step(
    step: StepRecord, result: Any, attempts: list[AttemptRecord], letter: DeadLetterRecord | None
) -> None:
    """Print a step, its attempts, and all of its result or last error."""
    died = (
        letter
        and f"{letter.id}: {letter.reason} at {cell(letter.created_at)}, fingerprint {letter.fingerprint}"
    )
    print_fields(
        {
            "step": f"{step.task_id}/{step.name}",
            "state": step.state,
            "handler": step.handler,
            "queue": step.queue,
            "failures": f"{step.failures} of {step.max_attempts} allowed",
            "losses": step.losses,
            "timeout": duration(step.timeout_ms / 1000),
            **({"run after": step.run_after} if step.run_after else {}),
            **({"dead letter": died} if died else {}),
        }
    )
    click.echo()
    rows = [
        (
            each.attempt,
            each.outcome or "running",
            f"{each.host}:{each.pid}" if each.host else None,
            each.claimed_at,
            time_taken(each.started_at, each.finished_at),
            shortened(error_line(each.error)),
        )
        for each in attempts
    ]
    columns = ("ATTEMPT", "OUTCOME", "WORKER", "CLAIMED", "DURATION", "ERROR")
    print_table(columns, rows, nothing="no attempt was made yet")
    if step.error:
        click.echo(f"\n{step.error.get('traceback') or ''}{error_line(step.error)}")
    elif step.state == "complete":
        click.echo(f"\n{json.dumps(result, indent=2, ensure_ascii=False)}")


def shortened(value: Any) -> str:
    """A value on one line; cut where it gets long, unless a pipe reads it."""
    text = " ".join(cell(value).split())
    return text if len(text) <= SHORT or not sys.stdout.isatty() else f"{text[: SHORT - 1]}{CUT}"


def error_line(error: dict[str, Any] | None) -> str:
    """A recorded error, its type without the module."""
    if not error:
        return ""
    kind = str(error.get("type", "error")).rpartition(".")[2]
    return f"{kind}: {error.get('message', '')}"


def time_taken(begin: datetime | None, end: datetime | None) -> str | None:
    """The time between, None while either is unknown."""
    if begin is None or end is None:
        return None
    seconds = (end - begin).total_seconds()
    return duration(seconds) if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _ending(step: StepRecord, results: dict[str, Any]) -> str:
    if step.error:
        return shortened(error_line(step.error))
    return shortened(results[step.name]) if step.name in results else ""
