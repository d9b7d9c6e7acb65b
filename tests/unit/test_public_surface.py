"""What people may rely on, in one file: a change of it is seen in review, and is a promise made or broken.

`python tests/unit/test_public_surface.py` rewrites the file; `python -m tasker.cli.reference` the documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import tasker
from tasker.cli.commands import Command
from tasker.cli.failures import ExitCode
from tasker.cli.main import tasker as program
from tasker.cli.output import LOOKS
from tasker.cli.reference import ROOT, commands, documents, json_keys
from tasker.cli.task import STATES
from tasker.domain.states import StepState, TaskState
from tasker.events.catalogue import EVENT_NAMES
from tasker.settings import Settings, variables
from tasker.worker import yaml_file

SURFACE = Path(__file__).resolve().parents[2] / "docs" / "public-surface.txt"


def surface() -> str:
    """Everything public, a line each."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    yield "# Python: names of the module tasker"
    yield from tasker.__all__
    yield "\n# Settings: name, variables, default"
    for name, field in Settings.model_fields.items():
        yield f"{name} {' '.join(variables(name))} {json.dumps(field.get_default(), default=str)}"
    yield "\n# Keys of template files"
    yield from _yaml_keys()
    yield "\n# Events"
    yield from EVENT_NAMES
    yield "\n# States of tasks"
    yield from TaskState
    yield "\n# States of steps"
    yield from StepState
    yield "\n# Commands: options, arguments, keys of -o json"
    for path, command in [("tasker", program), *commands()]:
        yield path
        yield from sorted(f"    {_written(param)}" for param in command.params)
        if isinstance(command, Command) and command.prints is not None:
            yield f"    json {json_keys(command.prints)}"
    yield "\n# Exit codes"
    yield from (f"{code.value} {code.name.lower()}" for code in ExitCode)


def _yaml_keys() -> Iterator[str]:
    for keys in (
        yaml_file._TEMPLATE,
        yaml_file._STEP,
        yaml_file._HANDLER,
        yaml_file._RETRY,
        yaml_file._DISPATCH,
    ):
        yield f"{keys.owner}: {' '.join(keys.known)}"
        yield from (f"{keys.owner}: {alias} = {known}" for alias, known in sorted(keys.aliases.items()))


def _written(param: click.Parameter) -> str:
    if isinstance(param, click.Option):
        choices = f" {'|'.join(param.type.choices)}" if isinstance(param.type, click.Choice) else ""
        return " ".join(sorted([*param.opts, *param.secondary_opts], reverse=True)) + choices
    return param.make_metavar(click.Context(click.Command("any")))


def test_the_public_surface_is_the_one_that_was_agreed() -> None:
    assert surface() == SURFACE.read_text()


@pytest.mark.parametrize("path", documents(), ids=str)
def test_what_is_made_from_the_code_is_current(path: Path) -> None:
    assert (ROOT / path).read_text() == documents()[path]


def test_the_command_line_knows_every_state() -> None:
    assert tuple(TaskState) == STATES
    assert set(LOOKS) == {*TaskState, *StepState}


if __name__ == "__main__":
    SURFACE.write_text(surface())
