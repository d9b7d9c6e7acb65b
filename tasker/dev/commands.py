"""`tasker dev` and `tasker demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tasker.cli.commands import Command

if TYPE_CHECKING:
    from tasker.cli.invocation import Invocation


@click.command(
    cls=Command, epilog="tasker -A shop dev\nTASKER_DATA_DIR=/tmp/shop tasker -A shop dev --concurrency 4"
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="How many steps to run at once.",
)
@click.pass_obj
def dev(invocation: Invocation, *, concurrency: int) -> None:
    """Run PostgreSQL, Redis and a worker that restarts when your code changes, until Ctrl-C.

    Data stays in .tasker (TASKER_DATA_DIR); commands in other terminals of this folder find the system there.
    TASKER_DATABASE_URL and TASKER_BROKER_URL name running servers to use instead.
    """
    from tasker.dev.develop import develop

    develop(invocation.settings, invocation.config, concurrency=concurrency)


@click.command(cls=Command, epilog="tasker demo")
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Run every example that comes with Tasker on PostgreSQL, Redis and a worker, and check the results.

    Everything it starts ends with it, and its data are removed. TASKER_DATABASE_URL and TASKER_BROKER_URL
    name running servers to use instead; there its tasks remain, and the schema example_shop.
    """
    from tasker.dev.demo import run_demo

    ctx.exit(0 if run_demo(ctx.obj.config) else 1)
