"""What the command line teaches, and what it costs to ask it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tasker.cli.commands import LateCommand
from tasker.cli.main import COMMANDS, tasker
from tasker.cli.reference import commands

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = {"tasker", "click"}
"""All that `tasker --help` and the plugin of `celery` may load of what is installed."""
HELP_SECONDS = 0.3
TRIES = 5
ALL = dict(commands())


def said(*arguments: str) -> str:
    """What `tasker` prints for these arguments, errors included."""
    return CliRunner().invoke(tasker, arguments, prog_name="tasker").output


def installed_modules_after(code: str) -> set[str]:
    """The top-level modules, not Python's own, that a new interpreter has loaded because it ran `code`."""
    report = (
        "import sys; before = {*sys.modules}\n"
        f"{code}\n"
        "print(*{name.partition('.')[0] for name in {*sys.modules} - before}, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ended.stderr.split()) - set(sys.stdlib_module_names)


@pytest.mark.parametrize("arguments", [["--help"], ["task", "--help"], ["db", "status", "--help"]])
def test_help_loads_click_and_nothing_else(arguments: list[str]) -> None:
    run = f"from tasker.cli.main import tasker; tasker({arguments}, 'tasker', standalone_mode=False)"
    assert installed_modules_after(run) == AT_ONCE


def test_the_package_itself_loads_nothing() -> None:
    assert installed_modules_after("import tasker; tasker.__all__") == {"tasker"}


def test_what_every_celery_command_loads_of_us_is_not_slow_either() -> None:
    assert installed_modules_after("import tasker.cli.celery_plugin") == AT_ONCE


def test_the_help_of_celery_loads_nothing_else_because_of_us() -> None:
    help_ = "from celery.bin.celery import celery; celery(['--help'], standalone_mode=False)"
    nobody = "import importlib.metadata; importlib.metadata.entry_points = lambda **_: []"
    with_us = installed_modules_after(help_)
    assert with_us - installed_modules_after(f"{nobody}; {help_}") == {"tasker"}


def test_a_worker_starts_without_what_few_workers_need() -> None:
    code = (
        "import sys, tasker.worker.launch, tasker.worker.process; "
        "print(*{'sqlalchemy.orm', 'alembic', 'jsonschema'} & {*sys.modules})"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


@pytest.mark.parametrize("name", ["RetryableError", "Retry"])
def test_what_handlers_raise_and_declare_loads_nothing_either(name: str) -> None:
    assert installed_modules_after(f"from tasker import {name}") == {"tasker"}


def test_help_is_there_at_once() -> None:
    run = "from tasker.cli.main import main; import sys; sys.argv = ['tasker', '--help']; main()"
    seconds = []
    for _ in range(TRIES):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < HELP_SECONDS


@pytest.mark.parametrize("path", ALL)
def test_every_command_says_in_a_sentence_what_it_does(path: str) -> None:
    help_text = ALL[path].help
    assert help_text
    sentence = help_text.split("\n\n")[0].strip()
    assert sentence[0].isupper()
    assert sentence.endswith(".")


@pytest.mark.parametrize("path", ALL)
def test_every_command_shows_an_example_of_itself(path: str) -> None:
    epilog = ALL[path].epilog or ""
    assert path.removeprefix("tasker ") in epilog
    assert epilog in said(*path.split()[1:], "--help").replace("\n  ", "\n")


@pytest.mark.parametrize("path", ALL)
def test_every_option_says_what_it_means(path: str) -> None:
    options = [param for param in ALL[path].params if isinstance(param, click.Option)]
    assert [param.name for param in options if not param.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_the_same_as_the_command(name: str) -> None:
    late = COMMANDS[name]
    assert isinstance(late, LateCommand)
    assert late.get_short_help_str(200) == late.load().get_short_help_str(200)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [(["taks"], "task"), (["task", "sbmit"], "submit"), (["db", "status", "--outptu", "json"], "--output")],
)
def test_a_mistyped_word_is_answered_with_the_nearest_one(arguments: list[str], nearest: str) -> None:
    assert f"Did you mean '{nearest}'?" in said(*arguments)


def test_an_option_that_belongs_before_the_command_is_shown_its_place() -> None:
    assert "tasker -A … worker" in said("worker", "-A", "shop")


def test_help_works_with_either_name() -> None:
    assert said("task", "-h") == said("task", "--help")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--foo"], "No such option '--foo'; see `tasker --help`"),
        (["task", "lst"], "No such command 'lst'. Did you mean 'list'?; see `tasker task --help`"),
        (["task", "submit"], "Missing argument 'TEMPLATE'; see `tasker task submit --help`"),
        (["-o", "json", "task", "list"], "-o goes after the command: tasker … -o json; see `tasker --help`"),
        (
            ["task", "-o", "json", "list"],
            "-o goes after the command: tasker task … -o json; see `tasker task --help`",
        ),
        (
            ["task", "list", "-A", "x"],
            "-A goes before the command: tasker -A … task list; see `tasker task list --help`",
        ),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line(arguments: list[str], told: str) -> None:
    ended = CliRunner().invoke(tasker, arguments, prog_name="tasker")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {told}\n"
