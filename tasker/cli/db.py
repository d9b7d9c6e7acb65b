"""`tasker db`: the schema of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

from tasker.cli.commands import Group
from tasker.cli.failures import ExitCode
from tasker.cli.options import output_option
from tasker.cli.output import note, print_json

if TYPE_CHECKING:
    from tasker.cli.invocation import Invocation


class MigrationJson(TypedDict):
    """What `db migrate` prints."""

    applied: list[str]


class SchemaJson(TypedDict):
    """What `db status` prints."""

    revision: str | None
    current: bool
    pending: list[str]
    broken: list[str]
    newer_release: str | None


@click.group(cls=Group)
def db() -> None:
    """Create and update the database schema."""


@db.command(prints=MigrationJson, epilog="tasker db migrate")
@output_option()
@click.pass_obj
def migrate(invocation: Invocation, form: str) -> None:
    """Bring the database up to this version; again, or from two places at once, does no harm."""
    from tasker.db.migrate import migrate as bring_up

    applied = bring_up(invocation.settings.require_database_url())
    if form == "json":
        print_json(MigrationJson(applied=applied))
        return
    for name in applied:
        click.echo(name)
    note(f"{len(applied)} files applied; the database is current" if applied else "the database was current")


@db.command(prints=SchemaJson, epilog="tasker db status || tasker db migrate")
@output_option()
@click.pass_context
def status(ctx: click.Context, form: str) -> None:
    """Say what `db migrate` would do; exit code 1 when that is anything."""
    from tasker.db.migrate import status as look

    found = look(ctx.obj.settings.require_database_url())
    if form == "json":
        shape = SchemaJson(
            revision=found.revision,
            current=found.current,
            pending=list(found.pending),
            broken=list(found.broken),
            newer_release=found.release,
        )
        print_json(shape)
    elif found.release is not None:
        click.echo(f"current: made by the newer Tasker {found.release}, which serves this one")
    elif found.current:
        click.echo(f"current: revision {found.revision}")
    else:
        for name in found.pending:
            click.echo(name)
        has = "has no Tasker schema" if found.revision is None else "is behind"
        note(f"the database {has}: {len(found.pending)} files are pending; run `tasker db migrate`")
        if found.broken:
            note(f"stop all workers and applications first, they call {', '.join(found.broken)} as it was")
    ctx.exit(ExitCode.OK if found.current else ExitCode.FAILURE)


@db.command(epilog="tasker db sql > migration.sql\ntasker db sql --empty | psql --single-transaction shop")
@click.option("--empty", is_flag=True, help="For a database without the schema; connects to none.")
@click.pass_obj
def sql(invocation: Invocation, *, empty: bool) -> None:
    """Print what `db migrate` would run, for a DBA to read and run."""
    from tasker.db.migrate import sql as script

    click.echo(script(None if empty else invocation.settings.require_database_url()), nl=False)
