"""`tasker template`: the versioned graphs that tasks run."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from tasker.cli.commands import Group
from tasker.cli.failures import ExitCode
from tasker.cli.graph_view import print_graph
from tasker.cli.options import output_option
from tasker.cli.output import note, print_fields, print_json, print_table
from tasker.cli.shapes import GraphJson, TemplateJson, TemplatesJson, listed_template, template_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasker.cli.invocation import Invocation
    from tasker.domain.records import StoredTemplate
    from tasker.domain.templates import TemplateDefinition
    from tasker.worker.registry import Template


class CheckedJson(TypedDict):
    """What `template validate` prints: the templates that are right, and every problem of the others."""

    valid: list[str]
    problems: list[str]


class StoredJson(TypedDict):
    """What `template register` prints: what it stored, and what had been stored before."""

    stored: list[str]
    unchanged: list[str]


@click.group(cls=Group)
def template() -> None:
    """Look at, check and store templates."""


template_argument = click.argument("name", metavar="TEMPLATE")
paths_argument = click.argument(
    "paths", metavar="[PATH]...", nargs=-1, type=click.Path(exists=True, path_type=Path)
)


@template.command(
    "list", prints=TemplatesJson, epilog="tasker template list\ntasker template list --namespace orders --all"
)
@click.option("--namespace", metavar="NAME", help="Only templates of this namespace.")
@click.option("--all", "everything", is_flag=True, help="Every version, also those that are retired.")
@output_option()
@click.pass_obj
def list_(invocation: Invocation, *, namespace: str | None, everything: bool, form: str) -> None:
    """List the stored templates, each in its newest version."""
    from tasker.db import queries

    found = invocation.database.call(queries.list_templates, namespace=namespace, retired=everything)
    newest_first = {each.full_name: each for each in reversed(found)}
    chosen = found if everything else [each for each in found if newest_first[each.full_name] is each]
    if form == "json":
        print_json(TemplatesJson(items=[listed_template(each) for each in chosen], next_cursor=None))
        return
    rows = [
        (f"{each.full_name}@{each.version}", each.steps_total, each.created_at, each.retired_at)
        for each in chosen
    ]
    nothing = "no template is stored; a worker stores its own when it starts, `template register` before"
    print_table(("TEMPLATE", "STEPS", "STORED", "RETIRED"), rows, nothing=nothing)


@template.command(prints=TemplateJson, epilog="tasker template show orders/fulfilment@1.0.0")
@template_argument
@output_option()
@click.pass_obj
def show(invocation: Invocation, name: str, *, form: str) -> None:
    """Show a stored template (its newest version, or NAME@VERSION): its steps and their settings."""
    found = _stored(invocation, name)
    if form == "json":
        print_json(template_json(found))
    else:
        _print(found)


@template.command(prints=GraphJson, epilog="tasker template graph orders/fulfilment -o mermaid")
@template_argument
@output_option("tree", "mermaid", "json", default="tree on a terminal, else mermaid")
@click.pass_obj
def graph(invocation: Invocation, name: str, *, form: str | None) -> None:
    """Draw the graph of a stored template."""
    found = _stored(invocation, name)
    parents = _definition(found).parents
    print_graph(form, parents, template=found.full_name, version=found.version)


@template.command(
    prints=CheckedJson, epilog="tasker -A shop template validate\ntasker -A shop template validate templates/"
)
@paths_argument
@output_option()
@click.pass_context
def validate(ctx: click.Context, paths: tuple[Path, ...], form: str) -> None:
    """Report every problem of the templates of -A MODULE, or of template files; exit code 1 with any.

    Nothing is stored, and no database or broker is needed. Without -A a file's handlers are not checked.
    """
    invocation: Invocation = ctx.obj
    valid, problems = _checked(invocation, paths)
    if form == "json":
        print_json(CheckedJson(valid=valid, problems=problems))
    else:
        for name in valid:
            click.echo(f"{name} is valid")
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
        if paths and not invocation.has_app:
            note("their handlers were not checked: name the module that has them, tasker -A MODULE …")
    ctx.exit(ExitCode.FAILURE if problems else ExitCode.OK)


@template.command(
    prints=StoredJson, epilog="tasker -A shop template register\ntasker -A shop template register templates/"
)
@paths_argument
@output_option()
@click.pass_obj
def register(invocation: Invocation, paths: tuple[Path, ...], form: str) -> None:
    """Store the templates of -A MODULE, or only those of files; nothing when one of them is wrong.

    A version that is stored keeps its content for good: change the version with the content. Workers store
    their templates at start, so this is for deployments that want them there before.
    """
    from tasker.orchestration.templates import store_templates

    queue = invocation.app.conf.task_default_queue
    chosen = _templates(invocation, paths)
    stored = store_templates(invocation.database, chosen, queue)
    named = [_reference(each) for each in chosen]
    unchanged = [name for name in named if name not in stored]
    if form == "json":
        print_json(StoredJson(stored=stored, unchanged=unchanged))
        return
    for name in named:
        click.echo(f"{name} {'is stored' if name in stored else 'was stored before'}")
    if not named:
        note("no template was found: -A MODULE must import what declares or loads them")


def _stored(invocation: Invocation, name: str) -> StoredTemplate:
    from tasker.db import queries
    from tasker.domain.version import parse_reference

    return invocation.database.call(queries.get_template, parse_reference(name))


def _definition(stored: StoredTemplate) -> TemplateDefinition:
    from tasker.domain.templates import TemplateDefinition

    return TemplateDefinition.from_json(stored.definition)


def _print(stored: StoredTemplate) -> None:
    from tasker.domain.durations import duration

    definition = _definition(stored)
    fields = {
        "template": f"{stored.full_name}@{stored.version}",
        "description": definition.description,
        "stored": stored.created_at,
        "retired": stored.retired_at,
        "deadline": definition.deadline_seconds and duration(definition.deadline_seconds),
        "digest": stored.digest,
    }
    print_fields({name: value for name, value in fields.items() if value})
    click.echo()
    rows = [
        (
            step.name,
            step.handler,
            ", ".join(step.depends_on),
            step.queue or "(default)",
            step.retry.max_attempts,
            duration(step.timeout_seconds),
        )
        for step in definition.steps
    ]
    print_table(("STEP", "HANDLER", "AFTER", "QUEUE", "ATTEMPTS", "TIMEOUT"), rows, nothing="no steps")


def _checked(invocation: Invocation, paths: Sequence[Path]) -> tuple[list[str], list[str]]:
    """The names of the templates that are right, and the problems of the others."""
    from tasker.worker.yaml_file import template_files

    problems: list[str] = []
    found: list[Template] = []
    valid: list[str] = []
    knows_handlers = invocation.has_app or not paths
    with _noting(problems):
        if knows_handlers:
            invocation.load_module()
    if not paths and not problems:  # what an import left half declared has no problems of its own
        found += _templates(invocation, ())
    for path in paths:
        with _noting(problems):
            for file in template_files(path):
                with _noting(problems):
                    found += _templates(invocation, [file])
    for each in found:
        with _noting(problems):
            if knows_handlers:
                each.definition  # noqa: B018 - reading it checks it
            valid.append(_reference(each))
    return valid, problems


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Add what a TemplateError says to `problems` and go on."""
    from tasker.domain.errors import TemplateError

    try:
        yield
    except TemplateError as error:
        problems += error.problems


def _templates(invocation: Invocation, paths: Sequence[Path]) -> list[Template]:
    """The templates of the files, or without any those of the module."""
    from tasker.worker import registry
    from tasker.worker.yaml_file import read_templates

    registry.process.obey(invocation.settings)
    if not paths:
        return list(registry.process.templates)
    return [each for path in paths for each in read_templates(path)]


def _reference(template: Template) -> str:
    return f"{template.full_name}@{template.version}"
