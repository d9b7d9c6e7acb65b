"""`tasker worker` and `tasker coordinator`: the processes that run until they are told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tasker.cli.commands import Command

if TYPE_CHECKING:
    from tasker.cli.invocation import Invocation

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

log_level_option = click.option(
    "--loglevel",
    "log_level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="The least level to log.  [default: the setting log_level, INFO]",
)


def queue_names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    """The names in a list such as `a,b`; None for no list."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("name at least one queue, as in --queues default,slow")
    return names


@click.command(
    cls=Command,
    epilog="tasker -A shop worker\ntasker -A shop worker --concurrency 8 --queues celery,slow",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many steps to run at once.  [default: one per CPU]",
)
@click.option(
    "--queues",
    "-Q",
    metavar="A,B",
    callback=queue_names,
    help="Queues to take steps from.  [default: the app's, `celery`]",
)
@click.option(
    "--pool",
    "-P",
    type=click.Choice(("prefork", "threads", "solo")),
    help="Run steps in processes, in threads, or in the main process.  [default: the app's, prefork]",
)
@click.option("--no-coordinator", is_flag=True, help="Leave retries and recovery to other processes.")
@log_level_option
@click.pass_context
def worker(
    ctx: click.Context,
    *,
    concurrency: int | None,
    queues: list[str] | None,
    pool: str | None,
    no_coordinator: bool,
    log_level: str | None,
) -> None:
    """Run the steps of tasks, until Ctrl-C or SIGTERM; steps that run are finished first."""
    invocation: Invocation = ctx.obj
    invocation.set_flags(log_level=log_level)
    app = invocation.app

    from tasker.worker.launch import run_worker

    ctx.exit(
        run_worker(
            app,
            processes=concurrency,
            queues=queues,
            pool=pool,
            coordinates=not no_coordinator,
            log_level=invocation.settings.log_level,
            configure_logs=invocation.log_as_process(),
        )
    )


@click.command(cls=Command, epilog="tasker coordinator")
@log_level_option
@click.pass_obj
def coordinator(invocation: Invocation, *, log_level: str | None) -> None:
    """Run the loops (retries, timers, lost workers and messages) without running steps.

    Every worker runs them too; installations that want them apart start it with --no-coordinator.
    """
    import signal
    import threading

    from tasker.worker.standalone import run_coordinator

    invocation.set_flags(log_level=log_level)
    invocation.log_as_process()()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # in a thread of its own: this one may hold the event's lock just now
        signal.signal(number, lambda *_: threading.Thread(target=stopped.set).start())
    app = invocation.app if invocation.names_an_application else None
    run_coordinator(invocation.settings, stopped, app)
