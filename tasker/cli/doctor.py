"""`tasker doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, TypedDict

import click

from tasker.cli.commands import Command
from tasker.cli.failures import ExitCode
from tasker.cli.options import output_option
from tasker.cli.output import print_json, shows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasker.cli.invocation import Invocation
    from tasker.orchestration.doctor import Finding


class FindingJson(TypedDict):
    """The outcome of a check. A `remedy` of one that is ok is advice."""

    name: str
    ok: bool
    text: str
    remedy: str


class DoctorJson(TypedDict):
    """What `doctor` prints."""

    ok: bool
    findings: list[FindingJson]


@click.command(cls=Command, prints=DoctorJson, epilog="tasker doctor\ntasker -A shop doctor -o json")
@click.option(
    "--all", "everything", is_flag=True, help="Check the whole history too, which can take minutes."
)
@output_option()
@click.pass_context
def doctor(ctx: click.Context, *, everything: bool, form: str) -> None:
    """Find what is wrong with this installation, and say what to do; exit code 1 when something is.

    With -A it looks at the settings of that Celery app too.
    """
    findings = list(_findings(ctx.obj, everything=everything))
    well = all(finding.ok for finding in findings)
    if form == "json":
        shapes = [FindingJson(name=f.name, ok=f.ok, text=f.text, remedy=f.remedy) for f in findings]
        print_json(DoctorJson(ok=well, findings=shapes))
    else:
        for finding in findings:
            _print(finding)
    ctx.exit(ExitCode.OK if well else ExitCode.FAILURE)


def _findings(invocation: Invocation, *, everything: bool) -> Iterator[Finding]:
    from tasker.orchestration.doctor import Finding
    from tasker.settings import unknown_variables

    for problem in unknown_variables():
        yield Finding("settings", ok=False, text=problem, remedy="correct its name, or unset it")
    yield from _database_findings(invocation, everything=everything)
    yield from _broker_findings(invocation)


def _database_findings(invocation: Invocation, *, everything: bool) -> Iterator[Finding]:
    from tasker.db.engine import Database
    from tasker.db.migrate import status
    from tasker.domain.errors import SettingsError, TaskerError, Unreachable
    from tasker.orchestration.doctor import HOURS_CHECKED, Finding, checks

    try:
        schema = status(invocation.settings.require_database_url())
    except (SettingsError, Unreachable) as error:
        what, _, remedy = str(error).partition(": ")
        yield Finding("database", ok=False, text=what, remedy=remedy or "see `tasker config show`")
        return
    except TaskerError as error:
        yield Finding("schema", ok=False, text=str(error), remedy="")
        return
    yield Finding("database", ok=True, text="PostgreSQL answers")
    if not schema.current:
        text = f"the database is behind this version: {len(schema.pending)} files are pending"
        yield Finding("schema", ok=False, text=text, remedy="run `tasker db migrate`")
        return
    made = f"made by the newer Tasker {schema.release}" if schema.release else f"revision {schema.revision}"
    yield Finding("schema", ok=True, text=f"the schema is current ({made})")
    if everything:
        url = invocation.settings.require_database_url()
        with closing(Database(url, connections=1, statement_timeout_seconds=None)) as unhurried:
            yield from unhurried.call(checks, hours=None)
    else:
        yield from invocation.database.call(checks, hours=HOURS_CHECKED)


def _broker_findings(invocation: Invocation) -> Iterator[Finding]:
    from tasker import broker
    from tasker.domain.errors import SettingsError
    from tasker.orchestration.doctor import Finding
    from tasker.worker.broker_check import broker_checks, celery_checks

    try:
        app = invocation.app if invocation.has_app else broker.celery_app(invocation.settings)
    except SettingsError as error:
        what, _, remedy = str(error).partition(": ")
        yield Finding("broker", ok=False, text=what, remedy=remedy)
        return
    yield from broker_checks(app)
    yield from celery_checks(app)


def _print(finding: Finding) -> None:
    if not finding.ok:
        sign, plain, colour = "✖", "wrong ", "red"
    elif finding.remedy:
        sign, plain, colour = "!", "advice", "yellow"
    else:
        sign, plain, colour = "✔", "ok    ", "green"
    on_terminal = sys.stdout.isatty() and shows(sign)
    click.echo(f"{click.style(sign if on_terminal else plain, fg=colour)}  {finding.text}")
    if finding.remedy:
        click.echo(f"{'':{1 if on_terminal else len(plain)}}  {finding.remedy}")
