"""Graphs drawn as trees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.cli.graph_view import tree_lines
from tasker.cli.tree import branches, dominators

Parents = dict[str, list[str]]

DIAMOND: Parents = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]}
TWO_ROOTS: Parents = {"a": [], "x": [], "b": ["a"], "z": ["x", "b"]}


def drawn(parents: Parents, *, plain: bool = False) -> list[str]:
    return [
        f"{each.lead}{each.name} {','.join(each.joined)}".rstrip() for each in branches(parents, plain=plain)
    ]


def test_a_join_hangs_below_the_step_that_every_way_to_it_passes() -> None:
    assert drawn(DIAMOND) == ["a", "├─ b", "├─ c", "└─ d b,c", "   └─ e"]


def test_a_join_of_several_roots_stands_at_the_top() -> None:
    assert drawn(TWO_ROOTS) == ["a", "└─ b", "x", "z x,b"]


def test_lines_go_on_beside_deeper_steps() -> None:
    parents: Parents = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"]}
    assert drawn(parents) == ["a", "├─ b", "│  └─ c", "└─ d"]


def test_a_terminal_without_box_characters_gets_ascii() -> None:
    assert drawn(DIAMOND, plain=True) == ["a", "|- b", "|- c", "`- d b,c", "   `- e"]


@st.composite
def graphs(draw: st.DrawFn) -> Parents:
    size = draw(st.integers(1, 12))
    return {
        f"s{place}": [f"s{above}" for above in sorted(draw(st.sets(st.integers(0, place - 1), max_size=3)))]
        if place
        else []
        for place in range(size)
    }


def ways(parents: Parents, name: str) -> list[set[str]]:
    """The steps on each way from a root to `name`, itself not included."""
    if not parents[name]:
        return [set()]
    return [way | {above} for above in parents[name] for way in ways(parents, above)]


@given(graphs())
def test_every_step_appears_once_and_after_all_its_parents(parents: Parents) -> None:
    order = [each.name for each in branches(parents)]
    assert sorted(order) == sorted(parents)
    assert all(order.index(above) < order.index(name) for name in parents for above in parents[name])


@given(graphs())
def test_a_dominator_is_on_every_way_and_nothing_nearer_is(parents: Parents) -> None:
    found = dominators(parents)
    for name in parents:
        on_every_way = set.intersection(*ways(parents, name))
        nearest = max(
            on_every_way, key=lambda each: len(set.intersection(*ways(parents, each))), default=None
        )
        assert found[name] == nearest


def test_a_chain_as_long_as_a_template_may_be_is_drawn() -> None:
    parents = {f"s{place}": [f"s{place - 1}"] if place else [] for place in range(10_000)}
    assert sum(1 for _ in branches(parents)) == 10_000


@pytest.mark.parametrize(
    ("count", "named"), [(2, "after p0, p1"), (8, "after p0, p1, p2, p3, p4 and 3 more")]
)
def test_a_join_names_its_parents_as_long_as_they_are_few(count: int, named: str) -> None:
    roots: Parents = {f"p{place}": [] for place in range(count)}
    *_, join = tree_lines({**roots, "join": list(roots)}, {})
    assert named in join
