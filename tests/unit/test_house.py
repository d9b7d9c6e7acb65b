"""The rules of the house that no tool checks: sizes, names, SQL files, and files that must agree."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("tasker", "workers", "tests", "bench", ".ci")
    for path in (ROOT / folder).rglob("*.py")
)
SQL_FUNCTIONS = sorted((ROOT / "sql" / "functions").glob("*.sql"))

FILE_LINES = 400
FUNCTION_LINES = 60
EMPTY_WORDS = {"util", "helper", "manager", "service", "common", "misc", "base", "processor"}

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef
PASSIVE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def span(node: ast.stmt) -> set[int]:
    """Line numbers of a statement."""
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def docstring_lines(tree: ast.Module) -> set[int]:
    """Line numbers covered by docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            lines |= span(node.body[0])
    return lines


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code: neither blank nor comment nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in PASSIVE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstring_lines(ast.parse(source))


def words(name: str) -> set[str]:
    """The words of a file or class name, in lower case and without a plural s."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def nodes(kind: type[Node]) -> Iterator[tuple[Path, Node]]:
    """Every node of a kind in the sources, with its file."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield path.relative_to(ROOT), node


def test_docstrings_comments_and_blank_lines_are_free() -> None:
    source = (
        '"""Doc\nstring."""\n\n# why\ndef f():\n    """Doc."""\n    x = """a\nb"""  # why\n    return x\n'
    )
    assert code_lines(source) == {5, 7, 8, 9}


def test_no_file_is_longer_than_one_can_hold_in_mind() -> None:
    sizes = {str(path.relative_to(ROOT)): len(code_lines(path.read_text())) for path in SOURCES}
    assert {path: size for path, size in sizes.items() if size > FILE_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long: dict[str, int] = {}
    for path in SOURCES:
        source = path.read_text()
        code = code_lines(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, Function) and (size := len(span(node) & code)) > FUNCTION_LINES:
                long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = size
    assert long == {}


def test_file_and_class_names_say_what_the_thing_is() -> None:
    named = {str(path.relative_to(ROOT)): path.stem for path in SOURCES}
    named |= {f"{path}:{node.lineno}": node.name for path, node in nodes(ast.ClassDef)}
    assert {place: name for place, name in named.items() if words(name) & EMPTY_WORDS} == {}


def test_every_imported_name_is_written_out() -> None:
    stars = [f"{path}:{node.lineno}" for path, node in nodes(ast.ImportFrom) if node.names[0].name == "*"]
    assert stars == []


@pytest.mark.parametrize("path", SQL_FUNCTIONS, ids=lambda path: path.stem)
def test_an_sql_file_holds_the_one_function_it_is_named_after(path: Path) -> None:
    code = re.sub(r"--.*", "", path.read_text())
    created = re.findall(r"^\s*create\s+(.*?)\s+tasker\.(\w+)", code, re.MULTILINE | re.IGNORECASE)
    assert created == [("or replace function", path.stem)]


@pytest.mark.parametrize("path", SQL_FUNCTIONS, ids=lambda path: path.stem)
def test_an_sql_file_begins_by_saying_what_its_function_does(path: Path) -> None:
    assert re.match(r"-- \w", path.read_text())


def test_the_newest_release_in_the_changelog_is_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [version])


@pytest.mark.parametrize("path", ["constraints.txt", "bench/constraints.txt"])
def test_every_pinned_version_is_exact_and_no_index_is_named(path: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    odd = [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!_]+", line)]
    assert odd == []


def test_the_workflow_runs_what_ci_runs_and_the_makefile_has_it() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    loop = re.search(r"^for target in (.+); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert loop
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step.get("run", "") for step in workflow["jobs"]["test"]["steps"]]
    made = [command.removeprefix("make ") for command in commands if command.startswith("make ")]
    assert made == ["setup", *loop[1].split()]
    assert set(made) <= set(targets)


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("service", [name for name, service in COMPOSE.items() if "build" in service])
def test_a_container_runs_a_command_that_tasker_has(service: str) -> None:
    run = "import sys; sys.argv[0] = 'tasker'; from tasker.cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", run, *COMPOSE[service]["command"], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Usage: tasker")


def test_the_containers_run_the_examples_the_wheel_carries() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    module = COMPOSE["worker"]["command"][1]
    assert wheel["sources"]["workers"] == module.replace(".", "/")


def test_a_container_waits_only_for_services_that_can_become_what_it_waits_for() -> None:
    for service in COMPOSE.values():
        for name, wait in service.get("depends_on", {}).items():
            assert wait["condition"] == (
                "service_healthy" if "healthcheck" in COMPOSE[name] else "service_completed_successfully"
            )
