"""Templates in YAML: the keys, tasker-core's aliases, and what is refused with file and line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasker import Retry, TemplateError, load_templates, step_handler
from tasker.worker.registry import Registry
from tasker.worker.yaml_tree import read_tree

FULFILMENT = """\
namespace: orders
name: fulfilment
version: 1.0.0
description: From order to parcel
context_schema:
  type: object
  required: [order_id]
steps:
  - name: validate
    handler: orders.validate
  - name: charge
    handler: orders.charge
    depends_on: [validate]
    retry: {max_attempts: 5, backoff: fibonacci, base_seconds: 0.5, max_seconds: 60, jitter: equal,
            never_for: [ValueError, shop.Declined]}
    timeout_seconds: 30
    queue: payments
    priority: 10
    config: {currency: EUR, on: true, at: 12:30, since: 2026-01-01}
    description: Takes the money
deadline_seconds: 3600
"""

TASKER_CORE = """\
namespace_name: orders
name: fulfilment
version: "1.0.0"
input_schema: {type: object}
steps:
  - name: validate
    handler: {callable: orders.validate, initialization: {strict: true}}
    retry: {retryable: false, max_attempts: 3}
  - name: charge
    handler:
      callable: orders.charge
    dependencies:
      - validate
    retry: {retryable: true, max_attempts: 4, backoff: linear, backoff_base_ms: 250, max_backoff_ms: 9000}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a template file into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "orders.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_file


@pytest.fixture
def handlers() -> None:
    @step_handler("orders.validate")
    def validate(context: dict[str, Any]) -> None: ...

    @step_handler("orders.charge")
    def charge(validate: Any) -> None: ...


def problems_of(read: Callable[[], object]) -> list[str]:
    with pytest.raises(TemplateError) as refused:
        read()
    return list(refused.value.problems)


def steps(text: str) -> str:
    """A template file with these steps, the first on line 5."""
    return f"namespace: orders\nname: fulfilment\nversion: 1.0.0\nsteps:\n{text}"


# --- what is read -------------------------------------------------------------------------------


def test_every_key_reaches_the_definition(write: Callable[..., Path], handlers: None) -> None:
    (template,) = load_templates(write(FULFILMENT))
    definition = template.definition
    charge = definition.steps[1]
    assert (template.full_name, template.version) == ("orders/fulfilment", "1.0.0")
    assert definition.description == "From order to parcel"
    assert definition.deadline_seconds == 3600
    assert definition.context_schema == {"type": "object", "required": ["order_id"]}
    assert charge.to_json() == {
        "name": "charge",
        "handler": "orders.charge",
        "depends_on": ["validate"],
        "retry": Retry(5, "fibonacci", 0.5, 60, "equal", ("ValueError", "shop.Declined")).to_json(),
        "timeout_ms": 30_000,
        "queue": "payments",
        "priority": 10,
        "config": {"currency": "EUR", "on": True, "at": "12:30", "since": "2026-01-01"},
        "description": "Takes the money",
    }


def test_a_step_may_be_transactional(write: Callable[..., Path]) -> None:
    @step_handler("book")
    def book(connection: Any) -> None: ...

    text = "name: a\nversion: 1.0.0\nsteps: [{name: book, handler: book, transactional: true}]"
    (template,) = load_templates(write(text))
    assert template.definition.steps[0].transactional is True


def test_a_step_may_have_a_time_to_start_in(write: Callable[..., Path]) -> None:
    @step_handler("book")
    def book() -> None: ...

    text = "name: a\nversion: 1.0.0\nsteps: [{name: book, handler: book, start_within_seconds: 90}]"
    (template,) = load_templates(write(text))
    assert template.definition.steps[0].start_within_seconds == 90


def test_a_step_may_say_how_many_share_its_messages(write: Callable[..., Path], handlers: None) -> None:
    text = steps("- name: validate\n  handler: orders.validate\n  dispatch: {max_batch: 8}")
    (template,) = load_templates(write(text))
    assert template.definition.steps[0].max_batch == 8


@pytest.mark.parametrize(
    ("dispatch", "problem"),
    [
        ("{max_batch: 65}", "max_batch: must be a whole number from 1 to 64, not 65"),
        ("\n    max_batch: [1]", "dispatch.max_batch: must be a single value"),
        ("{max_bach: 1}", 'dispatch.max_bach: is not a key of a dispatch; did you mean "max_batch"?'),
        ("8", "dispatch: must be a mapping with the keys of a dispatch"),
    ],
)
def test_what_is_wrong_with_its_dispatch_is_refused_with_its_line(
    write: Callable[..., Path], handlers: None, dispatch: str, problem: str
) -> None:
    text = steps(f"- name: validate\n  handler: orders.validate\n  dispatch: {dispatch}")
    line = 8 if "\n" in dispatch else 7
    (found,) = problems_of(lambda: load_templates(write(text)))
    assert found == f'orders.yaml:{line}: step "validate", {problem}'


def test_tasker_cores_keys_load_as_aliases(write: Callable[..., Path], handlers: None) -> None:
    (template,) = load_templates(write(TASKER_CORE))
    validate, charge = template.definition.steps
    assert template.full_name == "orders/fulfilment"
    assert template.definition.context_schema == {"type": "object"}
    assert (validate.handler, validate.config, validate.retry) == (
        "orders.validate",
        {"strict": True},
        Retry(max_attempts=1),
    )
    assert (charge.depends_on, charge.retry) == (
        ("validate",),
        Retry(max_attempts=4, backoff="linear", base_seconds=0.25, max_seconds=9),
    )


def test_what_is_left_out_has_pythons_defaults(write: Callable[..., Path]) -> None:
    (template,) = load_templates(write("name: hello\nversion: 1.0.0\nsteps: [{name: greet}]"))

    @step_handler("default/hello.greet")
    def greet() -> None: ...

    step = template.definition.steps[0]
    assert step.handler == "default/hello.greet"
    assert (step.retry, step.queue, step.priority, step.config) == (Retry(), None, 0, {})


def test_max_attempts_is_short_for_a_retry_and_a_name_may_hold_the_namespace(
    write: Callable[..., Path],
) -> None:
    text = "name: orders/small\nversion: 1.0.0\nsteps: [{name: a, handler: x, max_attempts: 9}]"
    (template,) = load_templates(write(text))
    step_handler("x")(print_nothing)
    assert template.full_name == "orders/small"
    assert template.definition.steps[0].retry == Retry(max_attempts=9)


def print_nothing() -> None: ...


def test_a_folder_is_read_with_its_subfolders(
    write: Callable[..., Path], tmp_path: Path, process_registry: Registry
) -> None:
    write(FULFILMENT)
    write(FULFILMENT.replace("name: fulfilment", "name: returns"), "more/returns.yml")
    write("not a template", "more/readme.md")
    assert [template.full_name for template in load_templates(tmp_path)] == [
        "orders/returns",
        "orders/fulfilment",
    ]
    assert len(process_registry.templates) == 2


# --- handlers -----------------------------------------------------------------------------------


def test_handlers_may_register_after_the_file_is_loaded(
    write: Callable[..., Path], process_registry: Registry
) -> None:
    (template,) = load_templates(write(FULFILMENT))

    @step_handler("orders.validat")
    def validate() -> None: ...

    found = problems_of(process_registry.check)
    missing, unknown = found
    assert missing.startswith('orders.yaml:10: step "validate", handler: no handler is registered')
    assert missing.endswith('; did you mean "orders.validat"?')
    assert unknown == 'orders.yaml:12: step "charge", handler: no handler is registered as "orders.charge"'
    step_handler("orders.validate")(validate)
    step_handler("orders.charge")(validate)
    process_registry.check()
    assert template.definition.steps[0].name == "validate"


def test_a_parameter_naming_a_step_that_is_no_parent_is_an_error(write: Callable[..., Path]) -> None:
    @step_handler("orders.validate")
    def validate() -> None: ...

    @step_handler("orders.charge")
    def charge(validate: Any) -> None: ...

    (template,) = load_templates(write(FULFILMENT.replace("    depends_on: [validate]\n", "")))
    (found,) = problems_of(lambda: template.definition)
    assert found.startswith(
        'orders.yaml:12: step "charge", handler: the parameter "validate" names a step that is not a parent; '
        "add it to depends_on ("
    )
    assert "charge, " in found


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n- b", "orders.yaml:1: must be a mapping with the keys of a template"),
        ("", "orders.yaml:1: the file is empty"),
        ("name: a\nversion: 1.0.0\nsteps: {}", "orders.yaml:3: steps: must be a list of steps"),
        ("name: a\nsteps: []", "orders.yaml:1: version: is missing"),
        ("name: a\nversion: 1.0\nsteps: []", "orders.yaml:2: version: 1.0 is not a version such as 1.0.0"),
        (
            f"verson: 1\n{FULFILMENT}",
            'orders.yaml:1: verson: is not a key of a template; did you mean "version"?',
        ),
        (
            f"lifecycle: {{}}\n{FULFILMENT}",
            "orders.yaml:1: lifecycle: is not acted on by this version; remove",
        ),
        (f"namespace_name: a\n{FULFILMENT}", "orders.yaml:2: namespace: is given twice"),
        (
            FULFILMENT.replace("type: object", "type: objekt"),
            "orders.yaml:5: context_schema: type: 'objekt' is not valid",
        ),
        (steps("  - greet"), "orders.yaml:5: step number 1: must be a mapping with the keys of a step"),
        (steps("  - handler: x"), "orders.yaml:5: step number 1, name: is missing"),
        (steps("  - name: [a]"), "orders.yaml:5: step number 1, name: must be a single value"),
        (
            steps("  - name: a\n    timout_seconds: 3"),
            'orders.yaml:6: step "a", timout_seconds: is not a key of a step; did you mean "timeout_se',
        ),
        (
            steps("  - name: a\n    result_schema: {}"),
            'orders.yaml:6: step "a", result_schema: is not acted on by this version; remove the key',
        ),
        (steps("  - name: a\n    depends_on: b"), 'step "a", depends_on: must be a list of step names'),
        (
            steps("  - name: fetch\n  - name: b\n    depends_on:\n      - fetch\n      - fetsh"),
            'orders.yaml:9: step "b", depends_on: "fetsh" is not a step of this template; did you mean "fe',
        ),
        (
            steps(
                "  - {name: a, depends_on: [c]}\n  - {name: b, depends_on: [a]}\n"
                "  - {name: c, depends_on: [b]}"
            ),
            'orders.yaml:5: step "a", depends_on: a cycle: a -> b -> c -> a',
        ),
        (steps("  - {name: a, depends_on: [a]}"), 'step "a", depends_on: a cycle: a -> a'),
        (steps("  - name: a\n  - name: a"), 'orders.yaml:6: step "a", name: another step has this name'),
        (
            steps("  - name: a\n    priority: high"),
            "priority: must be a whole number from -100 to 100, not 'high'",
        ),
        (
            steps("  - name: a\n    timeout_seconds: .inf"),
            'orders.yaml:6: step "a", timeout_seconds: must be above',
        ),
        (
            steps("  - name: a\n    config: {n: .nan}"),
            'orders.yaml:6: step "a", config: config.n: NaN is not JSON',
        ),
        (
            steps("  - name: a\n    config: {}\n    handler: {callable: x, initialization: {}}"),
            'orders.yaml:6: step "a", config: is given here and as handler.initialization; keep one',
        ),
        (steps("  - name: a\n    handler: {initialization: {}}"), 'step "a", handler.callable: is missing'),
        (
            steps("  - name: a\n    handler: {callable: x, method: y}"),
            'step "a", handler.method: is not acted on',
        ),
        (
            steps("  - name: a\n    max_attempts: 3\n    retry: {backoff: none}"),
            'orders.yaml:6: step "a", max_attempts: is given beside retry; keep one',
        ),
        (
            steps("  - name: a\n    retry:\n      backoff: none\n      max_attempts: 0"),
            'orders.yaml:8: step "a", retry.max_attempts: must be a whole number from 1',
        ),
        (
            steps("  - name: a\n    retry: {bakoff: none}"),
            'retry.bakoff: is not a key of a retry; did you mean "backo',
        ),
        (steps("  - name: a\n    retry: {never_for: [Valueerror]}"), 'did you mean "ValueError"?'),
        (
            steps("  - name: a\n    retry: {base_seconds: 1, backoff_base_ms: 5}"),
            "retry.backoff_base_ms: base_seconds is given by two keys; keep one",
        ),
        (steps("  - name: a\n    retry: {retryable: yes}"), "retry.retryable: must be true or false"),
        (steps("  - name: a\n    retry: 3"), "retry: must be a mapping with the keys of a retry"),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_remedy(
    write: Callable[..., Path], text: str, problem: str
) -> None:
    path = write(text)
    assert problem in "\n".join(problems_of(lambda: load_templates(path)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x 1", "f.yaml:1: the anchor &x is not allowed"),
        ("a: 1\nb: *x", "f.yaml:2: the alias *x is not allowed"),
        (
            "a: !!python/object:os.system x",
            "f.yaml:1: the tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        ("a:\n  - !mine {}", "f.yaml:2: the tag !mine is not allowed"),
        ("a: 1\nb: 2\na: 3", 'f.yaml:3: "a" is given twice, first on line 1'),
        ("a: {b: 1, b: 2}", 'f.yaml:1: "b" is given twice'),
        ("1: a", "f.yaml:1: the key 1 is not text; quote it"),
        ("null: a", "f.yaml:1: the key None is not text; quote it"),
        ("? [a]\n: b", "f.yaml:1: the key of this entry is not text"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second document; use a file each"),
        ("a: [1", "f.yaml:1: expected ',' or ']'"),
        ("a:\n\t- b", "f.yaml:2: found character '\\t' that cannot start any token"),
        ("a: 1\nb: \x01", "f.yaml:2: the character #x0001 is not allowed"),
        (f"a: {'9' * 5000}", "f.yaml:1: a number of more than 4000 digits; quote it"),
        ("# nothing but a comment", "f.yaml:1: the file is empty"),
    ],
)
def test_yaml_that_hides_or_repeats_something_is_refused(text: str, problem: str) -> None:
    assert problem in "\n".join(problems_of(lambda: read_tree(text, "f.yaml")))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500_000,
        "[\n" * 250_000,
        "{a: " * 250_000,
        "- " * 500_000,
        "? " * 500_000,
        "\n".join(" " * depth + "a:" for depth in range(1_400)),
        "a: " + "[" * 65 + "]" * 65,
    ],
    ids=["flow", "flow lines", "flow mappings", "dashes", "questions", "indents", "just too deep"],
)
def test_nesting_is_refused_before_anything_recurses(text: str) -> None:
    begun = time.process_time()
    assert problems_of(lambda: read_tree(text, "f.yaml")) == [
        f"f.yaml:{65 if chr(10) in text else 1}: nested deeper than 64 levels"
    ]
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: on, b: yes, c: NO, d: 12:30:00, e: 0123, f: 1_000, g: 2026-01-01}", None),
        ("[true, False, null, ~, 12, -3, 0x1F, 0o17, 1.5, .5, 1e3, -2.5E-1]", None),
        ("['12', \"true\", 'null', '']", ["12", "true", "null", ""]),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("{<<: {a: 1}}", {"<<": {"a": 1}}),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    expected = value or (
        {"a": "on", "b": "yes", "c": "NO", "d": "12:30:00", "e": 123, "f": "1_000", "g": "2026-01-01"}
        if text.startswith("{")
        else [True, False, None, None, 12, -3, 31, 15, 1.5, 0.5, 1000.0, -0.25]
    )
    assert read_tree(text, "f.yaml").plain() == expected


@given(st.text() | st.text("[]{}:,-?&*!|>'\"%@`#~ \n\tab019.", max_size=60))
@example("? ")
@example("-.nan")
@example(".")
@example("a: -.inf")
@example("%YAML 1.1\n---\na")
def test_any_text_is_a_tree_or_a_template_error(text: str) -> None:
    problems: tuple[str, ...] = ()
    try:
        read_tree(text, "f.yaml").plain()
    except TemplateError as refused:
        problems = refused.problems
    assert all(problem.startswith("f.yaml:") for problem in problems)


def test_the_problems_of_all_files_come_at_once_and_nothing_is_registered(
    write: Callable[..., Path], tmp_path: Path, process_registry: Registry
) -> None:
    write(FULFILMENT)
    write("name: a", "a.yaml")
    write(steps("  - name: b\n    queue: a b\n    priority: 1.5\n"), "b.yaml")
    found = problems_of(lambda: load_templates(tmp_path))
    assert [problem.partition(" ")[0] for problem in found] == [
        "a.yaml:1:",
        "a.yaml:1:",
        "b.yaml:6:",
        "b.yaml:7:",
    ]
    assert process_registry.templates == ()


def test_size_encoding_and_absence_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(FULFILMENT)
    assert problems_of(lambda: load_templates(path, max_bytes=100)) == [
        "orders.yaml: larger than 100 bytes; split the template"
    ]
    assert "orders.yaml:8: steps: 2 steps are over the limit of 1 (template_max_steps)" in problems_of(
        lambda: load_templates(path, max_steps=1)
    )
    latin = write("name: ok\nversion: é".encode("latin-1"), "latin.yaml")
    assert problems_of(lambda: load_templates(latin)) == ["latin.yaml:2: this is not UTF-8 text"]
    assert "cannot be read: No such file" in problems_of(lambda: load_templates(tmp_path / "no.yaml"))[0]
    (tmp_path / "empty").mkdir()
    assert problems_of(lambda: load_templates(tmp_path / "empty")) == [
        "empty: no .yaml or .yml file is in this folder"
    ]


def test_a_byte_order_mark_is_no_character(write: Callable[..., Path]) -> None:
    assert load_templates(write(b"\xef\xbb\xbf" + FULFILMENT.encode()))[0].full_name == "orders/fulfilment"
