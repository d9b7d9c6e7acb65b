"""Graphs as people see them: a tree on a terminal, Mermaid for documents, JSON for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tasker.cli.output import GAP, print_json, shows, state_text
from tasker.cli.shapes import GraphJson, NodeJson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMED_PARENTS = 5
WIDEST = 60
"""Beyond it, states stand right behind their steps rather than in a column."""


def print_graph(
    form: str | None,
    parents: Mapping[str, Sequence[str]],
    *,
    template: str,
    version: str,
    task_id: str | None = None,
    states: Mapping[str, str] | None = None,
) -> None:
    """Print a graph as `tree`, `mermaid` or `json`; None is a tree on a terminal, else Mermaid."""
    from tasker.domain.graph import mermaid

    match form or ("tree" if sys.stdout.isatty() else "mermaid"):
        case "json":
            given = states or {}
            steps = [
                NodeJson(name=name, depends_on=list(above), state=given.get(name))
                for name, above in parents.items()
            ]
            print_json(GraphJson(task_id=task_id, template=template, version=version, steps=steps))
        case "mermaid":
            click.echo(mermaid(parents, states), nl=False)
        case _:
            for line in tree_lines(parents, states or {}):
                click.echo(line)


def tree_lines(parents: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> list[str]:
    """The tree, a line for each step: its place, its state, and the parents the tree cannot show."""
    from tasker.cli.tree import branches

    found = list(branches(parents, plain=not shows("├─└│")))
    width = min(WIDEST, max(len(branch.lead + branch.name) for branch in found))
    lines = []
    for branch in found:
        parts = [f"{branch.lead + branch.name:{width}}"]
        if branch.name in states:
            parts.append(state_text(states[branch.name]))
        if branch.joined:
            parts.append(click.style(f"after {_listed(branch.joined)}", dim=True))
        lines.append(GAP.join(parts).rstrip())
    return lines


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_PARENTS
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:NAMED_PARENTS])} and {more} more"
