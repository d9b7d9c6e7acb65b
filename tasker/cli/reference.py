"""Documentation made from the code: `python -m tasker.cli.reference` rewrites it in a checkout."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

import click

from tasker.cli.commands import Command
from tasker.cli.failures import MEANINGS
from tasker.cli.main import tasker
from tasker.settings import Settings, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "<!-- made by `python -m tasker.cli.reference` -->"
END = "<!-- end of what is made -->"
HEAD = """\
# Settings of Tasker. Each line shows the default; remove its `#` to change it.
#
# A flag beats an environment variable (TASKER_ and the name in capitals), that beats this file, that beats
# the default. This file is read as ./config/tasker.yaml, or from where --config or TASKER_CONFIG says.
# `tasker config show` prints what is in force and where it is from; `tasker config validate` checks it.
"""


def settings_file() -> str:
    """`config/tasker.yaml`: every setting with its meaning and default, commented out."""
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        meaning = textwrap.fill(_meaning(field), 108, initial_indent="# ", subsequent_indent="# ")
        parts.append(f"{meaning}\n# {name}: {json.dumps(_default(field))}\n")
    return "\n".join(parts)


def settings_table() -> str:
    """The table of `docs/settings.md`."""
    rows = [
        (
            f"`{name}`",
            "`, `".join(variables(name)).join("``"),
            f"`{json.dumps(_default(field))}`",
            _meaning(field),
        )
        for name, field in Settings.model_fields.items()
    ]
    return _table(("Setting", "Variable", "Default", "Meaning"), rows)


def command_pages() -> str:
    """The commands and exit codes of `docs/cli.md`."""
    parts = [_options_of(tasker), *(_command_page(path, command) for path, command in commands())]
    codes = [(f"`{code.value}`", meaning) for code, meaning in MEANINGS.items()]
    return "\n".join([*parts, "## Exit codes\n", _table(("Code", "Meaning"), codes)])


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that can be typed, behind its full path, in the order of the help."""
    ctx = click.Context(tasker, info_name="tasker")
    yield from _below("tasker", tasker, ctx)


def json_keys(shape: Any) -> str:
    """The keys of a TypedDict, with those of what its lists hold: `{items: [{name, state}], next_cursor}`."""
    parts = []
    for name, kind in get_type_hints(shape).items():
        inner = next((part for part in get_args(kind) if is_typeddict(part)), None)
        parts.append(f"{name}: [{json_keys(inner)}]" if inner else name)
    return f"{{{', '.join(parts)}}}"


def rewritten(page: str, made: str) -> str:
    """The page with the part between the marks replaced."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n{END}{rest.split(END)[1]}"


def documents() -> dict[Path, str]:
    """Every file that is made, by its path from the root of the checkout, as it should be."""
    made = {Path("docs/cli.md"): command_pages(), Path("docs/settings.md"): settings_table()}
    pages = {path: rewritten((ROOT / path).read_text(), text) for path, text in made.items()}
    return {Path("config/tasker.yaml"): settings_file(), **pages}


def _below(path: str, group: click.Group, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _below(f"{path} {name}", command, ctx)
        elif command is not None:
            yield f"{path} {name}", command


def _command_page(path: str, command: click.Command) -> str:
    ctx = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(ctx))
    parts = [f"## {path}\n", f"{_paragraphs(command.help)}\n", f"```\n{path} {usage}\n```\n"]
    parts += filter(None, [_options_of(command)])
    if isinstance(command, Command) and command.prints is not None:
        parts.append(f"Keys of `-o json`: `{json_keys(command.prints)}`\n")
    if command.epilog:
        parts.append(f"Example:\n\n```sh\n{textwrap.dedent(command.epilog).strip()}\n```\n")
    return "\n".join(parts)


def _options_of(command: click.Command) -> str:
    ctx = click.Context(command)
    options = [param for param in command.params if isinstance(param, click.Option)]
    records = [option.get_help_record(ctx) for option in options]
    rows = [(f"`{record[0]}`", " ".join(record[1].split())) for record in records if record]
    return _table(("Option", "Meaning"), rows) if rows else ""


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in textwrap.dedent(text or "").split("\n\n"))


def _meaning(field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return f"{field.description} One of {', '.join(choices)}." if choices else field.description or ""


def _default(field: FieldInfo) -> Any:
    value = field.get_default()
    return str(value) if isinstance(value, Path) else value


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    for place, text in documents().items():
        (ROOT / place).write_text(text)
        click.echo(f"{place} is current")
