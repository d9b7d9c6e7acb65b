"""The documentation is true where a test can tell: paths, links, commands, names, parts drawn from code."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import tasker
from tasker.cli.commands import LateCommand
from tasker.cli.main import tasker as program
from tasker.dev.sample import sample
from tasker.orchestration.explain import SENTENCES
from tasker.settings import Settings
from tasker.worker import registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sql").glob("*.md")])
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OUTSIDE = {"keepachangelog.com", "semver.org"}
"""Neither package registries nor places that only some of the readers can reach."""
UNIT = re.compile(r"[a-z]+(?:_[a-z]+)*_(?:seconds|ms|bytes|losses|steps)")
OF_TEMPLATES = {"timeout_seconds", "deadline_seconds", "start_within_seconds", "base_seconds", "max_seconds"}
"""They are named like settings and are keywords of a step or its retry policy."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        first = self.text.splitlines()[0] if self.text else ""
        return f"{self.page} {first[:30]}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


BLOCKS = [
    Block(name_of(page), *found.groups()) for page in PAGES for found in FENCE.finditer(page.read_text())
]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def test_every_page_is_reached_from_the_readme() -> None:
    pages = {ROOT / "README.md"}
    while (
        further := {
            target
            for page in pages
            for link in LINK.findall(prose(page))
            if (target := (page.parent / link.partition("#")[0]).resolve()).suffix == ".md"
        }
        - pages
    ):
        pages |= further
    folders = {ROOT / "docs" / "adr"}
    assert [name_of(page) for page in PAGES if page not in pages and page.parent not in folders] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made by the usual renderers."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_find_it_table_names_files_that_exist() -> None:
    table = ARCHITECTURE.split("## Find it")[1].split("\n## ")[0]
    answers = [row.rpartition(" | ")[2] for row in table.splitlines() if row.startswith("| ")][1:]
    named = [CODE.findall(answer) for answer in answers]
    assert len(named) >= 25
    assert [answer for answer, paths in zip(answers, named, strict=True) if not paths] == []
    assert [path for paths in named for path in paths if not (ROOT / path).exists()] == []


def test_the_parts_drawn_from_code_are_current() -> None:
    drawn = runpy.run_path(str(ROOT / ".ci" / "pages.py"))["drawn"]
    stale = [name_of(page) for page in PAGES if drawn(page.read_text()) != page.read_text()]
    assert stale == [], "draw them anew with .venv/bin/python .ci/pages.py"


@pytest.mark.parametrize("name", runpy.run_path(str(ROOT / ".ci" / "pages.py"))["PARTS"])
def test_every_drawn_part_is_shown_once(name: str) -> None:
    marker = f"<!-- drawn: {name} -->"
    assert sum(page.read_text().count(marker) for page in PAGES) == 1


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_of_python_compiles(block: Block) -> None:
    compile(block.text, block.page, "exec", dont_inherit=True)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_of_python_imports_what_tasker_exports(block: Block) -> None:
    for names in re.findall(r"^from tasker import (.+)$", block.text, re.MULTILINE):
        assert {name.strip() for name in names.split(",")} <= set(tasker.__all__)


@pytest.mark.parametrize("block", [block for block in PYTHON if "TaskTemplate(" in block.text], ids=str)
def test_a_template_of_the_documentation_is_right(block: Block, process_registry: registry.Registry) -> None:
    exec(compile(block.text, block.page, "exec", dont_inherit=True), {"__name__": "shop"})  # noqa: S102 - our own documentation
    assert process_registry.templates
    process_registry.check()


def test_the_readme_has_the_two_files_that_the_acceptance_tests_run() -> None:
    first_lines = [block.text.splitlines()[0] for block in PYTHON if block.page == "README.md"]
    assert first_lines[0].startswith("# shop.py, loaded by ")
    assert first_lines[1].startswith("# submit.py, the application")


def test_the_readme_shows_what_dev_proposes_for_its_shop(process_registry: registry.Registry) -> None:
    shop = next(block.text for block in PYTHON if "shop.py" in block.text.splitlines()[0])
    exec(compile(shop, "shop.py", "exec", dont_inherit=True), {"__name__": "shop"})  # noqa: S102 - our own documentation
    (template,) = process_registry.templates
    proposed = shlex.quote(sample(template.definition.context_schema))
    assert f"    tasker task submit orders/fulfilment --context {proposed} --wait\n" in README


def test_the_readme_installs_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"tasker_engine-([^-]+)-", README) == [version]


def test_operations_says_what_to_do_about_every_reason_of_why() -> None:
    reasons = OPERATIONS.split("## The whole installation")[0].splitlines()
    named = {code for row in reasons if row.startswith("| `") for code in CODE.findall(row.split(" | ")[0])}
    assert named == {*SENTENCES, "no_coordinator"}


def test_operations_quotes_log_lines_that_are_written() -> None:
    table = OPERATIONS.split("In the logs:")[1].split("\n## ")[0]
    quoted = [found[1] for found in re.finditer(r"^\| `([^`]+)`", table, re.MULTILINE)]
    sources = "".join(path.read_text() for path in (ROOT / "tasker").rglob("*.py"))
    sources += "".join(path.read_text() for path in (ROOT / "sql").rglob("*.sql"))
    assert [line for line in quoted if line not in re.sub(r'"\n\s+f?"', "", sources)] == []


def written_commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line `tasker …` of the pages, with its page; of `a|b` and `a · b` each."""
    for page in PAGES:
        lines = [span for span in CODE.findall(prose(page)) if span.startswith("tasker ")]
        for _, text in FENCE.findall(page.read_text()):
            found = re.findall(
                r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(tasker [^\n#]+)", text.replace("\\\n", ""), re.MULTILINE
            )
            lines += [line for line in found if not line.startswith(("tasker dev: ", "tasker [-A"))]
        for line in lines:
            yield name_of(page), shlex.split(line.partition(" | ")[0].partition(" > ")[0])


COMMANDS = list(written_commands())


def problem(words: list[str]) -> str | None:
    """What is wrong with a command line; arguments are taken for right."""
    command: click.Command = program
    words = words[1:]
    while words:
        word = words.pop(0)
        if word in {"-A", "--app", "--config"} and command is program:
            words.pop(0)
        elif word.startswith("-") and word != "-":
            options = {option for parameter in command.params for option in parameter.opts}
            if word.partition("=")[0] not in options | {"--help", "-h"}:
                return f"{command.name} has no option {word}"
        elif isinstance(command, click.Group):
            for alternative in word.split("|"):
                if alternative not in command.commands:
                    return f"{command.name} has no command {alternative}"
            found = command.commands[word.split("|")[0]]
            command = found.load() if isinstance(found, LateCommand) else found
    return None


def test_the_documentation_is_full_of_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(
    "command", {shlex.join(words): words for _, words in COMMANDS}.values(), ids=shlex.join
)
def test_a_command_of_the_documentation_exists(command: list[str]) -> None:
    assert problem(command) is None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_make_targets_settings_and_sql_that_exist(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    sql = {path.stem for path in (ROOT / "sql" / "functions").glob("*.sql")}
    schema = "".join(path.read_text() for path in (ROOT / "sql" / "schema").glob("*.sql"))
    sql |= set(re.findall(r"create (?:table|type) tasker\.(\w+)", schema)) | {"run_steps", "sql_files"}
    spans = CODE.findall(prose(page))
    assert set(re.findall(r"\bmake ([a-z-]+)(?=`|$|\s+#)", text, re.MULTILINE)) <= set(targets)
    assert {span for span in spans if UNIT.fullmatch(span)} <= {*Settings.model_fields, *OF_TEMPLATES, *sql}
    named = {match[1] for span in spans if (match := re.match(r"tasker\.([a-z_]+)(?![\w/.]*\.py)", span))}
    assert named - {"db", "domain"} <= sql


def test_the_documentation_leads_outside_only_where_it_means_to() -> None:
    hosts = {host for page in PAGES for host in re.findall(r"https?://([^/\s)]+)", page.read_text())}
    assert hosts <= OUTSIDE
