"""`tasker task`: submit tasks, follow them, explain and repair them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tasker.cli.commands import Group
from tasker.cli.follow import follow
from tasker.cli.graph_view import print_graph
from tasker.cli.options import (
    Duration,
    JsonObject,
    Moment,
    TaskId,
    operator_options,
    output_option,
    paging_options,
)
from tasker.cli.output import note, print_json, print_table
from tasker.cli.shapes import (
    GraphJson,
    ReasonJson,
    RetriedJson,
    TaskJson,
    TasksJson,
    TaskStateJson,
    WhyJson,
    listed_task,
    task_json,
)
from tasker.cli.task_view import print_task, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from tasker.cli.invocation import Invocation
    from tasker.domain.records import TaskRecord

STATES = ("pending", "in_progress", "paused", "complete", "error", "cancelled", "resolved_manually")

task_argument = click.argument("task_id", metavar="TASK_ID", type=TaskId())
timeout_option = click.option(
    "--timeout",
    type=Duration(),
    help="Wait so long at most, as in 90, 5m or 2h; then exit code 124.  [default: for ever]",
)


@click.group(cls=Group)
def task() -> None:
    """Submit tasks, follow them, explain and repair them."""


@task.command(
    prints=TaskJson,
    epilog='tasker task submit orders/fulfilment --context \'{"order_id": 42, "amount": "9.50"}\' --wait\n'
    "tasker task submit orders/fulfilment@1.0.0 --context @order.json --idempotency-key order-42",
)
@click.argument("template", metavar="TEMPLATE")
@click.option(
    "--context",
    "-c",
    type=JsonObject(),
    default="{}",
    help="The task's input: JSON, @FILE, or - for standard input.  [default: {}]",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key of a template names the same task.")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    metavar="N",
    default=0,
    show_default=True,
    help="Higher goes first among steps that wait for a place.",
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="To find the task by; may be repeated.")
@click.option(
    "--run-after", type=Moment(), help="Start no sooner: a time, or a time span from now such as 10m."
)
@click.option(
    "--deadline",
    "deadline_seconds",
    type=Duration(),
    help="End the task in error if it takes longer, as in 90, 5m or 2h, from the time it may start.  "
    "[default: the template's]",
)
@click.option("--correlation-id", metavar="UUID", help="Ties the task to others, and to log lines.")
@click.option("--initiator", metavar="NAME", help="Who asked for it.")
@click.option("--source-system", metavar="NAME", help="Where the request came from.")
@click.option("--reason", metavar="TEXT", help="Why.")
@click.option(
    "--wait", is_flag=True, help="Wait until the task is settled, then print it, as `task wait` does."
)
@timeout_option
@output_option()
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    template: str,
    *,
    context: dict[str, Any],
    tags: tuple[str, ...],
    run_after: datetime | timedelta | None,
    wait: bool,
    timeout: float | None,
    form: str,
    **given: Any,
) -> None:
    """Create a task of a template (its newest version, or NAME@VERSION) and start it; prints its id."""
    invocation: Invocation = ctx.obj
    submitted = invocation.client.submit(template, context, tags=tags, run_after=run_after, **given)
    if not submitted.created:
        note("the idempotency key had named this task before; nothing was created")
    if wait:
        code = follow(submitted, invocation.database, timeout)
        _print(invocation, submitted.id, form, created=submitted.created)
        ctx.exit(code)
    if form == "json":
        print_json(task_json(invocation.database, submitted.id, created=submitted.created))
        return
    click.echo(submitted.id)
    note(f"follow it with `tasker task wait {submitted.id}`")


@task.command(
    "list", prints=TasksJson, epilog="tasker task list --state error\ntasker task list --since 2h -o json"
)
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@click.option("--template", metavar="TEMPLATE", help="Only tasks of this template, or of NAME@VERSION.")
@click.option("--namespace", metavar="NAME", help="Only tasks of templates in this namespace.")
@click.option("--tag", metavar="TAG", help="Only tasks with this tag.")
@click.option(
    "--since", type=Moment(past=True), help="Only tasks created since: a time, or a time span such as 2h."
)
@paging_options()
@output_option()
@click.pass_obj
def list_(
    invocation: Invocation,
    *,
    state: str | None,
    template: str | None,
    namespace: str | None,
    tag: str | None,
    since: datetime | None,
    limit: int,
    cursor: str | None,
    form: str,
) -> None:
    """List tasks, newest first."""
    from tasker.db import queries
    from tasker.domain.records import TaskFilter
    from tasker.domain.version import parse_reference

    reference = None if template is None else parse_reference(template)
    which = TaskFilter(state=state, template=reference, namespace=namespace, tag=tag, since=since)
    page = invocation.database.call(queries.list_tasks, which, limit=limit, cursor=cursor)
    if form == "json":
        print_json(TasksJson(items=[listed_task(each) for each in page.items], next_cursor=page.next_cursor))
        return
    done = _done(invocation, page.items)
    rows = [
        (
            each.id,
            f"{each.template}@{each.version}",
            each.state,
            f"{done[each.id]}/{each.steps_total}",
            each.created_at,
            shortened(", ".join(each.tags)),
        )
        for each in page.items
    ]
    print_table(("TASK", "TEMPLATE", "STATE", "DONE", "CREATED", "TAGS"), rows, nothing="no task fits")
    if page.next_cursor:
        note(f"there are more: --cursor {page.next_cursor}")


@task.command(prints=TaskJson, epilog="tasker task show 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f -o json")
@task_argument
@output_option()
@click.pass_obj
def show(invocation: Invocation, task_id: UUID, *, form: str) -> None:
    """Show a task: its state, its context, its steps with their results and errors."""
    _print(invocation, task_id, form, created=False)


@task.command(
    prints=TaskJson, epilog="tasker task wait 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f --timeout 5m && echo done"
)
@task_argument
@timeout_option
@output_option()
@click.pass_context
def wait(ctx: click.Context, task_id: UUID, *, timeout: float | None, form: str) -> None:
    """Wait until a task is settled, then show it; exit code 10 for error, 11 for cancelled."""
    invocation: Invocation = ctx.obj
    code = follow(invocation.client.task(task_id), invocation.database, timeout)
    _print(invocation, task_id, form, created=False)
    ctx.exit(code)


@task.command(prints=WhyJson, epilog="tasker task why 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f")
@task_argument
@output_option()
@click.pass_obj
def why(invocation: Invocation, task_id: UUID, *, form: str) -> None:
    """Say in words what each unfinished step waits for, and what to do where somebody has to."""
    from tasker.db import diagnosis, queries
    from tasker.orchestration.explain import why as explain

    invocation.database.call(queries.get_task, task_id)
    reasons = invocation.database.call(explain, task_id)
    status = invocation.database.call(diagnosis.task_execution_contexts, [task_id])[task_id]
    if form == "json":
        each_reason = [
            ReasonJson(step=each.step, state=each.state, codes=list(each.codes), text=each.text)
            for each in reasons
        ]
        answer = WhyJson(
            task_id=str(task_id),
            state=status.state,
            execution_status=status.execution_status,
            recommended_action=status.recommended_action,
            reasons=each_reason,
        )
        print_json(answer)
        return
    for reason in reasons:
        click.echo(reason.text)
    if not reasons:
        click.echo(f"the task is {status.state}; nothing is unfinished")


@task.command(prints=GraphJson, epilog="tasker task graph 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f -o mermaid")
@task_argument
@output_option("tree", "mermaid", "json", default="tree on a terminal, else mermaid")
@click.pass_obj
def graph(invocation: Invocation, task_id: UUID, *, form: str | None) -> None:
    """Draw a task's graph with the states of its steps."""
    from tasker.db import queries

    found = invocation.database.call(queries.get_task, task_id)
    parents = invocation.database.call(queries.task_graph, task_id)
    states = {step.name: step.state for step in invocation.database.call(queries.list_steps, task_id)}
    print_graph(
        form,
        parents,
        template=found.template,
        version=found.version,
        task_id=str(task_id),
        states=states,
    )


@task.command(
    prints=TaskStateJson,
    epilog='tasker task cancel 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f --reason "ordered twice"',
)
@task_argument
@operator_options
@output_option()
@click.pass_obj
def cancel(invocation: Invocation, task_id: UUID, *, actor: str, reason: str | None, form: str) -> None:
    """End a task and all its open steps at once; what a running handler reports later is refused."""
    from tasker.orchestration import operate

    _move(invocation, task_id, operate.cancel_task, form, actor=actor, reason=reason)


@task.command(
    prints=TaskStateJson,
    epilog='tasker task pause 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f --reason "bank is closed"',
)
@task_argument
@operator_options
@output_option()
@click.pass_obj
def pause(invocation: Invocation, task_id: UUID, *, actor: str, reason: str | None, form: str) -> None:
    """Hold a task: steps that run are finished, and no other starts until `task resume`."""
    from tasker.orchestration import operate

    _move(invocation, task_id, operate.pause_task, form, actor=actor, reason=reason)


@task.command(
    prints=TaskStateJson,
    epilog='tasker task resume 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f --reason "bank is open"',
)
@task_argument
@operator_options
@output_option()
@click.pass_obj
def resume(invocation: Invocation, task_id: UUID, *, actor: str, reason: str | None, form: str) -> None:
    """Let a paused task go on."""
    from tasker.orchestration import operate

    _move(invocation, task_id, operate.resume_task, form, actor=actor, reason=reason)


@task.command(
    prints=RetriedJson,
    epilog='tasker task retry 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f --reason "gateway is back"',
)
@task_argument
@operator_options
@output_option()
@click.pass_obj
def retry(invocation: Invocation, task_id: UUID, *, actor: str, reason: str | None, form: str) -> None:
    """Give every failed step of a task another go, with its full number of attempts."""
    from tasker.db import queries
    from tasker.orchestration import operate

    invocation.client.task(task_id)
    moved = operate.retry_task(invocation.client.engine, task_id, actor=actor, reason=reason)
    steps = invocation.database.call(queries.list_steps, task_id)
    names = [step.name for step in steps if step.id in set(moved)]
    if form == "json":
        print_json(RetriedJson(task_id=str(task_id), steps=names))
        return
    for name in names:
        click.echo(f"{task_id}/{name} is retried")


def _done(invocation: Invocation, tasks: Sequence[TaskRecord]) -> dict[UUID, int]:
    """How many steps of each task are done; a cancel closes the others without doing them."""
    from tasker.db import diagnosis
    from tasker.domain.states import SATISFYING

    done = {each.id: each.steps_total - each.steps_open for each in tasks}
    cancelled = [each.id for each in tasks if each.state == "cancelled"]
    if cancelled:
        contexts = invocation.database.call(diagnosis.task_execution_contexts, cancelled)
        for task_id, status in contexts.items():
            done[task_id] = sum(status.steps_by_state.get(state, 0) for state in SATISFYING)
    return done


def _move(
    invocation: Invocation, task_id: UUID, action: Callable[..., None], form: str, **said: str | None
) -> None:
    """Let an operator's action of `operate` move a task, and print its state then."""
    found = invocation.client.task(task_id)
    action(invocation.client.engine, task_id, **said)
    state = found.refresh().state
    if form == "json":
        print_json(TaskStateJson(task_id=str(task_id), state=state))
    else:
        click.echo(f"{task_id} is {state}")


def _print(invocation: Invocation, task_id: UUID, form: str, *, created: bool) -> None:
    if form == "json":
        print_json(task_json(invocation.database, task_id, created=created))
    else:
        print_task(invocation.database, task_id)
