"""`tasker config`: the settings in force, and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import click

from tasker.cli.commands import Group
from tasker.cli.failures import ExitCode
from tasker.cli.options import output_option
from tasker.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tasker.cli.invocation import Invocation


class SettingJson(TypedDict):
    """A setting in force. `origin`: flag, the variable, the file, `tasker dev` or default."""

    name: str
    value: str | int | float | None
    origin: str


class SettingsJson(TypedDict):
    """What `config show` prints."""

    settings: list[SettingJson]


class ProblemsJson(TypedDict):
    """What `config validate` prints."""

    problems: list[str]


@click.group(cls=Group)
def config() -> None:
    """Show and check the settings."""


@config.command(
    prints=SettingsJson, epilog="tasker config show\nTASKER_LOG_LEVEL=DEBUG tasker config show -o json"
)
@output_option()
@click.pass_obj
def show(invocation: Invocation, form: str) -> None:
    """Print every setting, its value and where that is from; passwords are hidden."""
    read = invocation.read
    rows = [
        SettingJson(name=name, value=_shown(getattr(read.settings, name)), origin=origin)
        for name, origin in read.origins.items()
    ]
    if form == "json":
        print_json(SettingsJson(settings=rows))
        return
    cells = [(row["name"], row["value"], row["origin"]) for row in rows]
    print_table(("SETTING", "VALUE", "FROM"), cells, nothing="no settings")


@config.command(prints=ProblemsJson, epilog="tasker --config production.yaml config validate")
@output_option()
@click.pass_context
def validate(ctx: click.Context, form: str) -> None:
    """Check the settings file and the environment; exit code 1 when something is wrong."""
    problems = _problems(ctx.obj)
    if form == "json":
        print_json(ProblemsJson(problems=problems))
    else:
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
        if not problems:
            click.echo("the settings are valid")
    ctx.exit(ExitCode.FAILURE if problems else ExitCode.OK)


def _problems(invocation: Invocation) -> list[str]:
    from tasker.domain.errors import SettingsError
    from tasker.settings import server_problems, unknown_variables

    try:
        settings = invocation.settings
    except SettingsError as error:
        return [*str(error).splitlines(), *unknown_variables()]
    return [*server_problems(settings), *unknown_variables()]


def _shown(value: Any) -> str | int | float | None:
    from pydantic import SecretStr

    from tasker.domain.redaction import BY_RULES

    if isinstance(value, SecretStr):
        return BY_RULES.hide(value.get_secret_value())
    return value if value is None or isinstance(value, int | float) else str(value)
