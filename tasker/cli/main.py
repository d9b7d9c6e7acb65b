"""The command `tasker`. It imports nothing slow but click; each command imports what it needs."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tasker.cli.commands import LateCommand, Program
from tasker.cli.invocation import Invocation

COMMANDS = {
    "dev": LateCommand(
        "tasker.dev.commands:dev",
        "Run PostgreSQL, Redis and a worker that restarts when your code changes, until Ctrl-C.",
    ),
    "demo": LateCommand(
        "tasker.dev.commands:demo",
        "Run every example that comes with Tasker on PostgreSQL, Redis and a worker, and check the results.",
    ),
    "worker": LateCommand(
        "tasker.cli.processes:worker",
        "Run the steps of tasks, until Ctrl-C or SIGTERM; steps that run are finished first.",
    ),
    "coordinator": LateCommand(
        "tasker.cli.processes:coordinator",
        "Run the loops (retries, timers, lost workers and messages) without running steps.",
    ),
    "db": LateCommand("tasker.cli.db:db", "Create and update the database schema."),
    "template": LateCommand("tasker.cli.template:template", "Look at, check and store templates."),
    "task": LateCommand("tasker.cli.task:task", "Submit tasks, follow them, explain and repair them."),
    "step": LateCommand("tasker.cli.step:step", "Look at the steps of a task, retry them, and park them."),
    "queue": LateCommand("tasker.cli.queue:queue", "See what waits in queues, and hold them."),
    "dlq": LateCommand("tasker.cli.dlq:dlq", "Look at dead letters: steps that ended in error."),
    "doctor": LateCommand(
        "tasker.cli.doctor:doctor",
        "Find what is wrong with this installation, and say what to do; exit code 1 when something is.",
    ),
    "config": LateCommand("tasker.cli.config:config", "Show and check the settings."),
}
EPILOG = """\
tasker demo                          see it work; nothing needs to be installed or configured
tasker -A shop worker                run the steps of the templates in shop.py
tasker task submit orders/fulfilment --context '{"order_id": 42, "amount": "9.50"}' --wait
tasker task why TASK_ID              what each unfinished step waits for"""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    """Print the version and end."""
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("tasker-engine")
        except PackageNotFoundError:
            found = "of a checkout that is not installed"
        click.echo(f"tasker {found}")
        ctx.exit()


@click.group("tasker", cls=Program, commands=COMMANDS, epilog=EPILOG, context_settings=CONTEXT)
@click.option(
    "-A", "--app", metavar="MODULE", help="The module with your templates and handlers.  [env: TASKER_APP]"
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The settings file.  [env: TASKER_CONFIG; default: config/tasker.yaml]",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=print_version,
    help="Print the version.",
)
@click.pass_context
def tasker(ctx: click.Context, app: str | None, config: Path | None) -> None:
    """Durable task graphs on PostgreSQL and the Celery you already run."""
    begin(ctx, Invocation(app, config))


def begin(ctx: click.Context, invocation: Invocation) -> None:
    """Hand the invocation to the commands below `ctx`."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    ctx.obj = invocation


def main() -> None:
    """The entry point of the program."""
    tasker(prog_name="tasker")


if __name__ == "__main__":
    main()
