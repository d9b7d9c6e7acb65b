"""`tasker step`: look at the steps of a task, retry them, and park them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tasker.cli.commands import Group
from tasker.cli.options import (
    MOST_LISTED,
    StepName,
    TaskId,
    operator_options,
    output_option,
    paging_options,
)
from tasker.cli.output import note, print_json, print_table
from tasker.cli.shapes import ParkedJson, RetriedJson, StepJson, StepsJson, listed_step, step_json
from tasker.cli.task_view import error_line, hint_at_more, is_cut, print_step, shortened, time_taken

if TYPE_CHECKING:
    from uuid import UUID

    from tasker.cli.invocation import Invocation

step_argument = click.argument("name", metavar="TASK_ID/STEP", type=StepName())


@click.group(cls=Group)
def step() -> None:
    """Look at the steps of a task, retry them, and park them."""


@step.command("list", prints=StepsJson, epilog="tasker step list 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f")
@click.argument("task_id", metavar="TASK_ID", type=TaskId())
@paging_options(MOST_LISTED)
@output_option()
@click.pass_obj
def list_(invocation: Invocation, task_id: UUID, *, limit: int, cursor: str | None, form: str) -> None:
    """List the steps of a task, in the order of its template."""
    from tasker.db import queries

    page = invocation.database.call(queries.step_page, task_id, limit=limit, cursor=cursor)
    steps = page.items
    if form == "json":
        print_json(StepsJson(items=[listed_step(each) for each in steps], next_cursor=page.next_cursor))
        return
    rows = [
        (
            f"{each.task_id}/{each.name}",
            each.state,
            each.attempt or None,
            each.queue,
            each.handler,
            time_taken(each.started_at, each.finished_at),
            shortened(error_line(each.error)),
        )
        for each in steps
    ]
    columns = ("STEP", "STATE", "ATTEMPT", "QUEUE", "HANDLER", "DURATION", "ERROR")
    print_table(columns, rows, nothing="no steps")
    hint_at_more(task_id, [each.name for each, row in zip(steps, rows, strict=True) if is_cut(row[-1])])
    if page.next_cursor:
        note(f"there are more: --cursor {page.next_cursor}")


@step.command(prints=StepJson, epilog="tasker step show 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f/charge")
@step_argument
@output_option()
@click.pass_obj
def show(invocation: Invocation, name: tuple[UUID, str], *, form: str) -> None:
    """Show a step: its attempts, where they ran, how they ended, its result or last error."""
    from tasker.db import queries
    from tasker.db.dead_letters import open_letter

    task_id, step_name = name
    found = invocation.database.call(queries.get_step, task_id, step_name)
    letter = invocation.database.call(open_letter, found.id)
    attempts = invocation.database.call(queries.list_attempts, found.id)
    result = invocation.database.call(queries.list_results, task_id, [step_name]).get(step_name)
    if form == "json":
        print_json(step_json(found, result, attempts, letter))
    else:
        print_step(found, result, attempts, letter)


@step.command(
    prints=RetriedJson,
    epilog='tasker step retry 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f/charge --reason "card was updated"',
)
@step_argument
@operator_options
@output_option()
@click.pass_obj
def retry(
    invocation: Invocation, name: tuple[UUID, str], *, actor: str, reason: str | None, form: str
) -> None:
    """Give a failed step another go, with its full number of attempts."""
    from tasker.db import queries
    from tasker.orchestration import operate

    task_id, step_name = name
    found = invocation.database.call(queries.get_step, task_id, step_name)
    operate.retry_steps(invocation.client.engine, [found.id], actor=actor, reason=reason)
    if form == "json":
        print_json(RetriedJson(task_id=str(task_id), steps=[step_name]))
    else:
        click.echo(f"{task_id}/{step_name} is retried")


@step.command(
    prints=ParkedJson,
    epilog='tasker step park 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f/charge --reason "wrong price list"',
)
@step_argument
@operator_options
@output_option()
@click.pass_obj
def park(
    invocation: Invocation, name: tuple[UUID, str], *, actor: str, reason: str | None, form: str
) -> None:
    """Take a step out that does not run: it is in error, with a dead letter, until somebody retries it."""
    from tasker.db import queries
    from tasker.orchestration import operate

    task_id, step_name = name
    found = invocation.database.call(queries.get_step, task_id, step_name)
    operate.park_steps(invocation.client.engine, [found.id], actor=actor, reason=reason)
    if form == "json":
        print_json(ParkedJson(task_id=str(task_id), steps=[step_name]))
    else:
        click.echo(f"{task_id}/{step_name} is parked; `tasker step retry` puts it back")
