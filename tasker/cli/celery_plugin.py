"""`celery -A shop tasker …`: the same commands below Celery's. Imported at every call of `celery`."""

from __future__ import annotations

from pathlib import Path

import click

from tasker.cli.commands import Program
from tasker.cli.invocation import Invocation
from tasker.cli.main import COMMANDS, CONTEXT, begin


@click.group("tasker", cls=Program, commands=COMMANDS, context_settings=CONTEXT)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The settings file of Tasker.  [env: TASKER_CONFIG; default: config/tasker.yaml]",
)
@click.pass_context
def tasker(ctx: click.Context, config: Path | None) -> None:
    """Durable task graphs: submit, follow, explain and repair tasks."""
    # without -A Celery makes up an app, which is nobody's
    given = ctx.parent is not None and ctx.parent.params.get("app")
    begin(ctx, Invocation(None, config, ctx.obj.app if given else None))
