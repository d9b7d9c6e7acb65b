"""A dependency graph as a tree of text: each step once, joins below what all their ways have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tasker.domain import graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Branch(NamedTuple):
    """A line of the tree: the lines that lead to the step, its name, and the parents the tree cannot show."""

    lead: str
    name: str
    joined: tuple[str, ...]


def branches(parents: Mapping[str, Sequence[str]], *, plain: bool = False) -> Iterator[Branch]:
    """The steps from the roots down, every step after all its parents.

    A step with one parent hangs below it. A step with several hangs below the nearest step that every way to
    it passes (its dominator), or at the top when there is none, and names its parents. `plain` draws with
    ASCII.
    """
    above = dominators(parents)
    below: dict[str | None, list[str]] = {None: []}
    for name, dominator in above.items():
        below.setdefault(dominator, []).append(name)
    fork, last, through = ("|- ", "`- ", "|  ") if plain else ("├─ ", "└─ ", "│  ")
    # depth first without recursion: a chain may be as long as a template may have steps
    waiting = [("", "", name) for name in reversed(below[None])]
    while waiting:
        indent, elbow, name = waiting.pop()
        joined = tuple(parents[name]) if len(parents[name]) > 1 else ()
        yield Branch(indent + elbow, name, joined)
        deeper = indent + {fork: through, last: "   "}.get(elbow, "")
        elbows = last
        for child in reversed(below.get(name, [])):
            waiting.append((deeper, elbows, child))
            elbows = fork


def dominators(parents: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """For each step the nearest one that every way to it passes, None for none; in order of their levels."""
    found: dict[str, str | None] = {}
    depth: dict[str | None, int] = {None: 0}
    for level in graph.levels(parents):
        for name in level:
            ways: list[str | None] = list(parents[name]) or [None]
            common = ways[0]
            for way in ways[1:]:
                other = way
                while common != other:
                    if depth[common] >= depth[other]:
                        common = found[common] if common is not None else None
                    else:
                        other = found[other] if other is not None else None
            found[name] = common
            depth[name] = depth[common] + 1
    return found
