"""Definitions: their stored form and digest, their graph, their versions, and the check of all of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain import graph
from tasker.domain.errors import TemplateError, ValueRefused
from tasker.domain.retry import Retry
from tasker.domain.schemas import context_check, schema_problems
from tasker.domain.templates import StepDefinition, TemplateDefinition, check
from tasker.domain.version import Reference, is_version, parse_reference, version_key


def step(name: str, *depends_on: str, **fields: Any) -> StepDefinition:
    return StepDefinition(name=name, handler=f"orders.{name}", depends_on=depends_on, **fields)


def template(*steps: StepDefinition, **fields: Any) -> TemplateDefinition:
    named = {"namespace": "orders", "name": "fulfilment", "version": "1.0.0", **fields}
    return TemplateDefinition(steps=steps, **named)


ASCENDING = """
0.0.1-alpha 0.0.1 0.1.0 0.9.0 0.10.0 1.0.0-0 1.0.0-1 1.0.0-9 1.0.0-10 1.0.0-alpha 1.0.0-alpha.1
1.0.0-alpha.beta 1.0.0-alpha-1 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.0+dev.1
1.0.0+dev.2 1.0.0+dev.10 1.0.1 1.9.0 1.10.0 2.0.0 10.0.0 999999999.0.0
"""

DIAMOND = template(
    step("a"),
    step("b", "a", queue="slow", priority=5, timeout_seconds=0.5, config={"n": [1, None]}),
    step("c", "a", retry=Retry(max_attempts=1, backoff="none"), description="the other way"),
    step("d", "b", "c", start_within_seconds=7.5, max_batch=4),
    description="four steps",
    context_schema={"type": "object", "required": ["id"]},
    deadline_seconds=90.5,
)

graphs = st.integers(1, 12).flatmap(
    lambda size: st.lists(
        st.sets(st.integers(0, size - 1), max_size=3),
        min_size=size,
        max_size=size,
    ).map(lambda rows: {f"s{n}": [f"s{parent}" for parent in sorted(row)] for n, row in enumerate(rows)})
)


def problems_of(definition: TemplateDefinition, **limits: int) -> list[str]:
    with pytest.raises(TemplateError) as refused:
        check(definition, "shop.py:3", **limits)
    return list(refused.value.problems)


class TestStoredForm:
    def test_a_definition_survives_it(self) -> None:
        assert TemplateDefinition.from_json(json.loads(json.dumps(DIAMOND.to_json()))) == DIAMOND

    def test_is_what_sql_reads(self) -> None:
        assert DIAMOND.to_json()["steps"][1] == {
            "name": "b",
            "handler": "orders.b",
            "depends_on": ["a"],
            "queue": "slow",
            "priority": 5,
            "timeout_ms": 500,
            "retry": Retry().to_json(),
            "config": {"n": [1, None]},
            "description": "",
        }
        assert set(DIAMOND.to_json()) == {
            "namespace",
            "name",
            "version",
            "description",
            "context_schema",
            "steps",
            "deadline_ms",
        }
        assert "deadline_ms" not in replace(DIAMOND, deadline_seconds=None).to_json(), "as older ones"

    def test_config_is_stored_as_plain_json(self) -> None:
        assert step("a", config={"rate": Decimal("0.5")}).to_json()["config"] == {"rate": "0.5"}


class TestDigest:
    def test_ignores_descriptions_and_the_order_of_parents(self) -> None:
        first = template(step("a"), step("b"), step("c", "a", "b"), context_schema={"description": "one"})
        second = template(
            step("a", description="more"),
            step("b"),
            step("c", "b", "a"),
            description="other words",
            context_schema={"description": "two"},
        )
        assert first.digest == second.digest

    @pytest.mark.parametrize(
        "changed",
        [
            {"version": "1.0.1"},
            {"context_schema": {"properties": {"description": {"type": "string"}}}},
            {"deadline_seconds": 60},
            {"steps": (step("a"), step("b"))},
            {"steps": (step("a", queue="q"), step("b", "a"))},
            {"steps": (step("a", config={"x": 1}), step("b", "a"))},
            {"steps": (step("a", start_within_seconds=60), step("b", "a"))},
            {"steps": (step("a", max_batch=1), step("b", "a"))},
            {"steps": (step("a", retry=Retry(max_attempts=4)), step("b", "a"))},
        ],
    )
    def test_changes_with_what_the_template_does(self, changed: dict[str, Any]) -> None:
        before = template(step("a"), step("b", "a"), context_schema={"properties": {"description": True}})
        assert replace(before, **changed).digest != before.digest

    def test_is_the_same_in_every_process(self) -> None:
        assert (
            template(step("a")).digest == "0154367ce3e93793e1ac40287e10ef3a66263c9cdcca537a95d6989c6ab73b8f"
        )


class TestGraph:
    @given(graphs)
    def test_a_cycle_is_found_exactly_where_graphlib_finds_one(self, parents: dict[str, list[str]]) -> None:
        cycle = graph.find_cycle(parents)
        try:
            TopologicalSorter(parents).prepare()
        except CycleError:
            assert cycle[0] == cycle[-1]
            assert all(parent in parents[child] for parent, child in itertools.pairwise(cycle))
            assert len(set(cycle)) == len(cycle) - 1
        else:
            assert cycle == []

    @given(graphs)
    def test_each_step_stands_one_level_below_its_lowest_parent(self, parents: dict[str, list[str]]) -> None:
        acyclic = {
            name: [parent for parent in above if int(parent[1:]) < int(name[1:])]
            for name, above in parents.items()
        }
        level = {name: number for number, row in enumerate(graph.levels(acyclic)) for name in row}
        assert level == {
            name: max((level[parent] + 1 for parent in above), default=0) for name, above in acyclic.items()
        }

    def test_levels_follow_the_longest_way(self) -> None:
        assert DIAMOND.levels() == [["a"], ["b", "c"], ["d"]]
        assert template(step("a"), step("b", "a"), step("c", "a", "b")).levels() == [["a"], ["b"], ["c"]]

    def test_a_chain_of_ten_thousand_steps_is_no_recursion(self) -> None:
        chain = template(step("s0"), *(step(f"s{n}", f"s{n - 1}") for n in range(1, 10_000)))
        check(chain, "chain.py:1")
        assert len(chain.levels()) == 10_000

    def test_mermaid_draws_nodes_and_edges(self) -> None:
        assert template(step("a"), step("b-c", "a")).mermaid() == (
            'flowchart TD\n    s0["a"]\n    s1["b-c"]\n    s0 --> s1\n'
        )

    def test_mermaid_of_a_run_shows_each_state(self) -> None:
        drawn = template(step("a"), step("b", "a"), step("c", "a")).mermaid(
            {"a": "complete", "b": "error", "c": "complete"}
        )
        assert 's1["b<br/>error"]' in drawn
        assert "class s0,s2 complete" in drawn
        assert drawn.count("classDef") == 2


class TestCheck:
    def test_passes_what_can_run(self) -> None:
        check(DIAMOND, "shop.py:3")

    @pytest.mark.parametrize(
        ("definition", "problem"),
        [
            (template(), "shop.py:3: steps: a template needs at least one step"),
            (template(step("a"), namespace="Orders"), "shop.py:3: namespace: 'Orders' must be lower-case"),
            (template(step("a"), name="x" * 101), "at most 100 characters"),
            (template(step("a"), version="1.0"), "version: '1.0' is not a version such as 1.0.0"),
            (template(step("1a")), "step \"1a\", name: '1a' must be lower-case"),
            (template(step("results")), 'step "results", name: "results" means something else'),
            (template(step("a", "a")), 'shop.py:3: step "a", depends_on: a cycle: a -> a'),
            (
                template(step("charge"), step("ship", "chrage")),
                'step "ship", depends_on: "chrage" is not a step of this template; did you mean "charge"?',
            ),
            (template(step("a"), step("b", "a", "a")), 'step "b", depends_on: "a" is named twice'),
            (template(step("a"), step("a")), 'step "a", name: another step has this name'),
            (template(step("a", "c"), step("b", "a"), step("c", "b")), "a cycle: a -> b -> c -> a"),
            (template(replace(step("a"), handler="no good")), "handler: 'no good' is not a handler's name"),
            (template(step("a"), deadline_seconds=0), "deadline_seconds: must be above 0 and at most"),
            (template(step("a"), deadline_seconds=10**9), "deadline_seconds: must be above 0 and at most"),
            (template(step("a"), deadline_seconds="60"), "deadline_seconds: must be above 0 and at most"),
            (template(step("a", start_within_seconds=0)), 'step "a", start_within_seconds: must be above 0'),
            (
                template(step("a", max_batch=0)),
                'step "a", max_batch: must be a whole number from 1 to 64, not 0',
            ),
            (template(step("a", max_batch=65)), "max_batch: must be a whole number from 1 to 64, not 65"),
            (template(step("a", max_batch=True)), "max_batch: must be a whole number from 1 to 64"),
            (template(step("a", timeout_seconds=0)), "timeout_seconds: must be above 0"),
            (template(step("a", timeout_seconds=float("nan"))), "timeout_seconds: must be above 0"),
            (template(step("a", timeout_seconds=10**8)), "timeout_seconds: must be above 0 and at most"),
            (template(step("a", queue="")), "queue: '' is not the name of a queue"),
            (template(step("a", priority=101)), "priority: must be a whole number from -100 to 100, not 101"),
            (template(step("a", priority=True)), "priority: must be a whole number"),
            (template(step("a", config={"at": object()})), "config.at: object is not JSON"),
            (template(step("a", config=[])), "config: must be a JSON object, not []"),
            (template(step("a"), description="x" * 10_001), "description: 10001 characters are over the"),
            (template(step("a"), description="a\0b"), "description: a string with a NUL character"),
            (template(step("a", description="\ud800")), 'step "a", description: a string with half a'),
            (template(step("a", config={"a": "x\0"})), "config: config.a: a string with a NUL character"),
            (
                template(step("a", config={"a": "x" * 70_000})),
                "config: config.a: this makes the whole larger",
            ),
            (
                template(step("a"), context_schema={"maximum": float("inf")}),
                "context_schema: context_schema.maximum: Infinity is not JSON",
            ),
            (
                template(step("a"), context_schema={"title": "\0"}),
                "context_schema: context_schema.title: a string with a NUL character",
            ),
            (
                template(step("a"), context_schema={"$defs": {"x" * 300_000: {}}}),
                "context_schema: context_schema['$defs']: this makes the whole larger",
            ),
            (
                template(step("a"), context_schema={"type": "objekt"}),
                "context_schema: type: 'objekt' is not valid",
            ),
        ],
    )
    def test_names_what_is_wrong(self, definition: TemplateDefinition, problem: str) -> None:
        assert problem in "\n".join(problems_of(definition))

    def test_reports_everything_at_once(self) -> None:
        wrong = template(
            step("a", "b", queue="a b"), step("b", "a"), step("c", "nope", priority=1000), version="1"
        )
        assert len(problems_of(wrong)) == 5

    def test_counts_the_steps(self) -> None:
        two = template(step("a"), step("b"))
        assert problems_of(two, max_steps=1) == [
            "shop.py:3: steps: 2 steps are over the limit of 1 (template_max_steps)"
        ]


class TestContextSchema:
    SCHEMA = {  # noqa: RUF012 - read only
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        },
        "required": ["id"],
        "$defs": {"line": {"type": "object", "required": ["sku"]}},
    }

    def test_a_context_that_fits_passes(self) -> None:
        context_check(self.SCHEMA)({"id": 1, "lines": [{"sku": "a"}], "more": None})
        context_check(None)({"anything": True})

    @pytest.mark.parametrize(
        ("schema", "context", "message"),
        [
            (SCHEMA, {}, "context: 'id' is a required property"),
            (SCHEMA, {"id": "1", "lines": [{}]}, "context.id: '1' is not of type 'integer'"),
            (SCHEMA, {"id": 1, "lines": [{"sku": 1}, {}]}, "context.lines[1]: 'sku' is a required property"),
            (None, [1], "context: must be a JSON object, not list"),
        ],
    )
    def test_a_context_that_does_not_is_refused_with_each_path(
        self, schema: dict[str, Any] | None, context: object, message: str
    ) -> None:
        with pytest.raises(ValueRefused) as refused:
            context_check(schema)(context)
        assert message in str(refused.value)

    def test_a_message_does_not_quote_a_long_value(self) -> None:
        with pytest.raises(ValueRefused, match=r"^context\.id: does not satisfy type: 'integer'$"):
            context_check(self.SCHEMA)({"id": "x" * 1000})

    @pytest.mark.parametrize(
        ("schema", "problem"),
        [
            ([], "must be a JSON object holding a JSON Schema"),
            ({"type": "array"}, 'describes no object; a context is always a JSON object ("type": "object")'),
            ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "describes no object"),
            ({"properties": {"a": {"minimum": "1"}}}, "properties.a.minimum: '1' is not of type 'number'"),
            ({"properties": {"a": {"pattern": "("}}}, "properties.a.pattern: '(' is not a 'regex'"),
            ({"$schema": "http://json-schema.org/draft-07/schema#"}, "only JSON Schema 2020-12 is supported"),
            (
                {"$ref": "https://example.com/order.json"},
                '$ref "https://example.com/order.json" leads nowhere',
            ),
            ({"properties": {"a": {"$ref": "#/$defs/lost"}}}, '$ref "#/$defs/lost" leads nowhere'),
        ],
    )
    def test_a_schema_that_could_not_be_enforced_is_refused(self, schema: object, problem: str) -> None:
        assert any(problem in found for found in schema_problems(schema))

    def test_a_property_or_a_value_called_ref_is_no_reference(self) -> None:
        assert schema_problems({"properties": {"$ref": {"const": {"$ref": "anything"}}}}) == []


class TestVersion:
    def test_keys_sort_by_bytes_as_semver_orders_versions(self) -> None:
        keys = [version_key(version).encode() for version in ASCENDING.split()]
        assert keys == sorted(set(keys))

    @given(st.tuples(*[st.integers(0, 10**9 - 1)] * 3), st.tuples(*[st.integers(0, 10**9 - 1)] * 3))
    def test_releases_order_by_their_numbers(self, one: tuple[int, ...], other: tuple[int, ...]) -> None:
        keys = [version_key(".".join(map(str, numbers))) for numbers in (one, other)]
        assert (keys[0] < keys[1]) == (one < other)

    @pytest.mark.parametrize(
        "version", ["1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "v1.0.0", "1.0.0 ", "1.0.0\n", ""]
    )
    def test_what_is_no_semver_is_refused(self, version: str) -> None:
        assert not is_version(version)
        with pytest.raises(TemplateError, match="is not a version such as"):
            version_key(version)

    @pytest.mark.parametrize(
        ("text", "reference"),
        [
            ("orders/fulfilment", Reference("orders", "fulfilment", None)),
            ("orders/fulfilment@1.0.0-rc.1", Reference("orders", "fulfilment", "1.0.0-rc.1")),
            ("hello", Reference("default", "hello", None)),
        ],
    )
    def test_a_reference_names_namespace_name_and_version(self, text: str, reference: Reference) -> None:
        assert parse_reference(text) == reference
        assert parse_reference(str(reference)) == reference

    @pytest.mark.parametrize(
        "text", ["", "Orders/x", "a/b/c", "a/", "/a", "a@", "a@1", "a@1.0.0@2.0.0", "a b"]
    )
    def test_a_reference_to_nothing_is_refused(self, text: str) -> None:
        with pytest.raises(ValueRefused, match=r"^template: "):
            parse_reference(text)
