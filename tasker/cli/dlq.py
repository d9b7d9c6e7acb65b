"""`tasker dlq`: what ended in error, whether it was repaired since or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

from tasker.cli.commands import Group
from tasker.cli.options import output_option, paging_options
from tasker.cli.output import note, print_fields, print_json, print_table
from tasker.cli.shapes import DeadLetterJson, dead_letter_json
from tasker.cli.task_view import error_line, shortened

if TYPE_CHECKING:
    from tasker.cli.invocation import Invocation
    from tasker.domain.records import DeadLetterRecord

REASONS = ("exhausted", "permanent", "worker_lost", "unclaimable", "deadline", "start_timeout", "parked")


class DeadLettersJson(TypedDict):
    """A page of dead letters."""

    items: list[DeadLetterJson]
    next_cursor: str | None


@click.group(cls=Group)
def dlq() -> None:
    """Look at dead letters: steps that ended in error."""


@dlq.command(
    "list",
    prints=DeadLettersJson,
    epilog="tasker dlq list --open\ntasker dlq list --reason exhausted --fingerprint 9f2c41d07be83a65",
)
@click.option("--open", "only_open", is_flag=True, help="Only of steps that are in error now.")
@click.option("--reason", type=click.Choice(REASONS), help="Only with this reason.")
@click.option("--fingerprint", metavar="HEX", help="Only of errors alike: those with this fingerprint.")
@paging_options()
@output_option()
@click.pass_obj
def list_(
    invocation: Invocation,
    *,
    only_open: bool,
    reason: str | None,
    fingerprint: str | None,
    limit: int,
    cursor: str | None,
    form: str,
) -> None:
    """List dead letters, newest first."""
    from tasker.db.dead_letters import list_dead_letters

    page = invocation.database.call(
        list_dead_letters,
        only_open=only_open,
        reason=reason,
        fingerprint=fingerprint,
        limit=limit,
        cursor=cursor,
    )
    if form == "json":
        items = [dead_letter_json(each) for each in page.items]
        print_json(DeadLettersJson(items=items, next_cursor=page.next_cursor))
        return
    rows = [
        (
            each.id,
            _of(each),
            each.reason,
            each.fingerprint,
            each.created_at,
            each.closed_at,
            shortened(error_line(each.error)),
        )
        for each in page.items
    ]
    columns = ("ID", "STEP", "REASON", "FINGERPRINT", "SINCE", "CLOSED", "ERROR")
    print_table(columns, rows, nothing="no dead letter fits")
    if page.next_cursor:
        note(f"there are more: --cursor {page.next_cursor}")


@dlq.command(prints=DeadLetterJson, epilog="tasker dlq show 12")
@click.argument("letter", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@output_option()
@click.pass_obj
def show(invocation: Invocation, letter: int, *, form: str) -> None:
    """Show a dead letter: its error, and how the step stood when it failed."""
    from tasker.db.dead_letters import get_dead_letter

    found = invocation.database.call(get_dead_letter, letter)
    if form == "json":
        print_json(dead_letter_json(found))
        return
    closed = {
        "closed": found.closed_at,
        "closed by": found.closed_by,
        "closed because": found.closed_because,
    }
    print_fields(
        {
            "dead letter": found.id,
            "step": _of(found),
            "reason": found.reason,
            "fingerprint": found.fingerprint,
            "since": found.created_at,
            **(closed if found.closed_at else {}),
            **{name.replace("_", " "): value for name, value in found.snapshot.items() if name != "step"},
        }
    )
    click.echo(f"\n{found.error.get('traceback') or ''}{error_line(found.error)}")


def _of(letter: DeadLetterRecord) -> str:
    """What the letter is about."""
    return str(letter.task_id) if letter.step_id is None else f"{letter.task_id}/{letter.step}"
