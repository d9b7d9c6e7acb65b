"""Click, as Tasker's commands use it: in the order declared, loaded late, taught by an example each."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from tasker.cli.failures import report, say

if TYPE_CHECKING:
    from collections.abc import Iterator

BEFORE_THE_COMMAND = ("-A", "--app", "--config")


AFTER_THE_COMMAND = ("-o", "--output")


class Misused(click.UsageError):
    """A mistake in the command line, told in one line as every other error."""

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Print it on standard error."""
        see = f"; see `{self.ctx.command_path} --help`" if self.ctx else ""
        say(self.format_message().rstrip(".") + see)


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except (Misused, click.exceptions.NoArgsIsHelpError):
        raise
    except click.UsageError as error:
        raise Misused(error.format_message(), error.ctx) from None


class _WithExample(click.Command):
    """A command whose epilog is its example, to be typed line by line; click would fill its lines."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """As click does; a mistake is told in one line."""
        with _usage_in_one_line():
            return super().make_context(*args, **options)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Print the example."""
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_WithExample):
    """A verb, which says what its JSON holds.

    `prints` is the TypedDict of what `-o json` writes; the documentation is made from it.
    """

    def __init__(self, *args: Any, prints: type | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.prints = prints

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with a word on options that were meant for `tasker` itself."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in BEFORE_THE_COMMAND:
                whole, own = program_and_command(ctx)
                hint = f"{error.option_name} goes before the command: {whole} {error.option_name} … {own}"
                raise click.UsageError(hint, ctx) from None
            raise


class Group(_WithExample, click.Group):
    """A noun. Its verbs are listed in the order in which they were declared."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with a word on options that were meant for the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in AFTER_THE_COMMAND:
                name = error.option_name
                hint = f"{name} goes after the command: {ctx.command_path} … {name} json"
                raise click.UsageError(hint, ctx) from None
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The verbs, in order of declaration."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands with their whole first sentence, and without importing any."""
        rows = [(name, command.get_short_help_str(limit=100)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def program_and_command(ctx: click.Context) -> tuple[str, str]:
    """The program (`tasker`, `celery`), and the words of the command below it."""
    program = ctx.find_root().info_name or ""
    return program, ctx.command_path.removeprefix(program).strip()


class LateCommand(click.Command):
    """The place of a command that is imported when it is used: `--help` of the program needs no more."""

    def __init__(self, where: str, summary: str) -> None:
        self.module, _, self.attribute = where.partition(":")
        super().__init__(self.attribute, help=summary)

    def load(self) -> click.Command:
        """Import the command. Raises UsageError when this installation lacks it."""
        try:
            found: click.Command = getattr(import_module(self.module), self.attribute)
        except ModuleNotFoundError as error:
            if error.name != self.module:
                raise
            raise click.UsageError(f"this installation has no `tasker {self.name}`") from None
        return found


class Program(Group):
    """The whole: loads commands late, and turns whatever they raise into a line and an exit code."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name, imported now."""
        found = super().get_command(ctx, name)
        return found.load() if isinstance(found, LateCommand) else found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; here, and nowhere else, exceptions become exit codes."""
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            ctx.exit(report(KeyboardInterrupt()))
        except Exception as error:  # noqa: BLE001 - the last place that can say what went wrong
            ctx.exit(report(error))
