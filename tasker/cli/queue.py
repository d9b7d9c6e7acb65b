"""`tasker queue`: see what waits in queues, and hold them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tasker.cli.commands import Group
from tasker.cli.follow import ERASE_LINE
from tasker.cli.options import Duration, operator_options, output_option
from tasker.cli.output import note, print_json, print_table
from tasker.cli.shapes import QueueJson, QueuesJson, queue_json

if TYPE_CHECKING:
    from tasker.cli.invocation import Invocation
    from tasker.domain.records import QueueRecord

queue_argument = click.argument("name", metavar="QUEUE")


@click.group(cls=Group)
def queue() -> None:
    """See what waits in queues, and hold them."""


@queue.command("list", prints=QueuesJson, epilog="tasker queue list")
@output_option()
@click.pass_obj
def list_(invocation: Invocation, *, form: str) -> None:
    """List the queues: who paused them, which are full, what they hold, publish and run, who serves them."""
    from tasker.db import holds

    found = invocation.database.call(holds.list_queues)
    if form == "json":
        print_json(QueuesJson(items=[queue_json(each) for each in found], next_cursor=None))
        return
    rows = [
        (
            each.name,
            each.paused_at,
            each.paused_by,
            None if each.gate_open else "closed",
            each.held,
            each.published,
            each.running,
            each.workers,
            each.heard_at,
        )
        for each in found
    ]
    columns = ("QUEUE", "PAUSED SINCE", "BY", "GATE", "HELD", "PUBLISHED", "RUNNING", "WORKERS", "LAST HEARD")
    print_table(columns, rows, nothing="no template and no worker has named a queue yet")


@queue.command(prints=QueueJson, epilog='tasker queue pause mail --reason "provider is down"')
@queue_argument
@operator_options
@output_option()
@click.pass_obj
def pause(invocation: Invocation, name: str, *, actor: str, reason: str | None, form: str) -> None:
    """Hold a queue: steps that run are finished, and no other of any task starts until `queue resume`."""
    from tasker.orchestration import operate

    _print(operate.pause_queue(invocation.client.engine, name, actor=actor, reason=reason), form)


@queue.command(prints=QueueJson, epilog="tasker queue resume mail")
@queue_argument
@output_option()
@click.pass_obj
def resume(invocation: Invocation, name: str, *, form: str) -> None:
    """Let a paused queue go on."""
    from tasker.orchestration import operate

    _print(operate.resume_queue(invocation.client.engine, name), form)


@queue.command(prints=QueueJson, epilog="tasker queue drain mail --timeout 5m && echo nothing runs")
@queue_argument
@operator_options
@click.option(
    "--timeout",
    type=Duration(),
    help="Wait so long at most, as in 90, 5m or 2h; then exit code 124.  [default: for ever]",
)
@output_option()
@click.pass_obj
def drain(
    invocation: Invocation, name: str, *, actor: str, reason: str | None, timeout: float | None, form: str
) -> None:
    """Pause a queue and wait until none of its steps runs; it stays paused until `queue resume`."""
    from tasker.orchestration import operate

    progress = _Progress(name)
    try:
        drained = operate.drain_queue(
            invocation.client.engine,
            name,
            actor=actor,
            reason=reason,
            timeout_seconds=timeout,
            tell=progress.tell,
        )
    finally:
        progress.end()
    _print(drained, form)


class _Progress:
    """How many steps still run, on standard error: in one line of a terminal, else a line for each change."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._told: int | None = None
        self._terminal = sys.stderr.isatty()

    def tell(self, running: int) -> None:
        if running != self._told:
            self._told = running
            text = f"still running on queue {self._queue}: {running}"
            click.echo(f"{ERASE_LINE}{text}" if self._terminal else text, nl=not self._terminal, err=True)

    def end(self) -> None:
        if self._terminal:
            click.echo(ERASE_LINE, nl=False, err=True)


def _print(found: QueueRecord, form: str) -> None:
    if form == "json":
        print_json(queue_json(found))
        return
    state = "goes on" if found.paused_at is None else "is paused"
    click.echo(f"queue {found.name} {state}: {found.running} running, {found.held + found.published} waiting")
    if found.paused_at is not None:
        note(f"`tasker queue resume {found.name}` lets it go on")
