"""Templates in Python, and the registry they, their handlers and `@step_handler` fill."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, shared_task
from pydantic import BaseModel, Field

import tasker
from tasker import Retry, StepContext, TaskTemplate, TemplateError, load_templates, step_handler
from tasker.settings import Settings
from tasker.worker.registry import Registry


class Order(BaseModel):
    """An order."""

    order_id: int = Field(alias="orderId")


@dataclass
class Invoice:
    number: str


def validate(context: Order) -> dict[str, Any]:
    return {"ok": context.order_id > 0}


def charge(validate: dict[str, Any], context: Order, step: StepContext) -> dict[str, Any]:
    return {"payment": step.idempotency_key}


def ship(step: StepContext, note: str = "none") -> None: ...


def refund(chargge: dict[str, Any]) -> None: ...


def loop_one(loop_two: Any) -> None: ...


def loop_two(loop_one: Any) -> None: ...


def myself(myself: Any) -> None: ...


class Gateway:
    def charge(self, context: Order) -> None: ...

    def __call__(self, context: Order) -> None: ...


def fulfilment(**keywords: Any) -> TaskTemplate:
    return TaskTemplate("orders/fulfilment", version="1.0.0", **keywords)


def problems_of(read: Callable[[], object]) -> str:
    with pytest.raises(TemplateError) as refused:
        read()
    return str(refused.value)


# --- TaskTemplate -------------------------------------------------------------------------------


def test_a_parameter_named_after_a_step_makes_it_a_parent_wherever_it_is_declared() -> None:
    template = fulfilment(context=Order)
    template.step(charge)
    template.step(depends_on=["validate", "charge"])(ship)
    template.step(validate)
    assert template.definition.parents == {
        "charge": ("validate",),
        "ship": ("validate", "charge"),
        "validate": (),
    }
    assert [step.handler for step in template.definition.steps] == [
        "orders/fulfilment.charge",
        "orders/fulfilment.ship",
        "orders/fulfilment.validate",
    ]


def test_the_decorator_returns_the_function_unchanged() -> None:
    template = fulfilment()
    assert template.step(validate) is validate
    assert template.step(name="again", handler="orders.again")(validate) is validate
    assert step_handler("orders.validate")(validate) is validate


def test_every_keyword_reaches_the_definition() -> None:
    template = fulfilment(description="all of it", deadline_seconds=60)
    template.add_step(validate)
    template.add_step(
        ship,
        name="ship-it",
        handler="shipping.ship",
        depends_on=["validate"],
        retry=Retry(max_attempts=7, backoff="constant"),
        timeout_seconds=12.5,
        queue="slow",
        priority=-3,
        config={"carrier": "post"},
        description="by post",
        start_within_seconds=90,
        max_batch=8,
    )
    step = template.definition.steps[1]
    assert step.to_json() == {
        "name": "ship-it",
        "handler": "shipping.ship",
        "depends_on": ["validate"],
        "retry": Retry(max_attempts=7, backoff="constant").to_json(),
        "timeout_ms": 12_500,
        "queue": "slow",
        "priority": -3,
        "config": {"carrier": "post"},
        "description": "by post",
        "start_within_ms": 90_000,
        "max_batch": 8,
    }
    assert template.definition.description == "all of it"
    assert template.definition.to_json()["deadline_ms"] == 60_000


def test_only_a_transactional_step_says_so_in_its_stored_form() -> None:
    template = fulfilment()

    @template.step(transactional=True)
    def book(connection: Any) -> None: ...

    template.add_step(ship)
    transactional, plain = (step.to_json() for step in template.definition.steps)
    assert transactional["transactional"] is True
    assert not {"transactional", "start_within_ms", "max_batch"} & plain.keys(), (
        "or older definitions' digests would change"
    )


def test_max_attempts_is_short_for_a_retry() -> None:
    template = fulfilment()
    template.step(max_attempts=5)(validate)
    assert template.definition.steps[0].retry == Retry(max_attempts=5)


def test_without_a_slash_the_namespace_is_default() -> None:
    template = TaskTemplate("hello", version="0.1.0")
    template.step(ship)
    assert (template.full_name, template.definition.namespace) == ("default/hello", "default")


@pytest.mark.parametrize(
    ("context", "properties"), [(Order, ["orderId"]), (Invoice, ["number"]), (None, None)]
)
def test_the_context_type_gives_the_schema_that_submit_enforces(
    context: Any, properties: list[str] | None
) -> None:
    template = fulfilment(context=context)
    template.step(ship)
    schema = template.definition.context_schema
    assert (schema and list(schema["properties"])) == properties


def test_methods_and_objects_can_be_steps() -> None:
    template = fulfilment(context=Order)
    gateway = Gateway()
    template.add_step(gateway.charge)
    template.add_step(gateway, name="call")
    template.add_step(functools.partial(ship, note="partial"), name="partial")
    assert list(template.definition.parents) == ["charge", "call", "partial"]


def test_celery_tasks_can_be_steps_and_declaring_them_makes_no_celery_task() -> None:
    app = Celery("shop", set_as_current=False)
    made: list[str] = []

    class Noted(app.Task):
        @classmethod
        def on_bound(cls, app: Celery) -> None:  # noqa: ARG003 - Celery's signature
            made.append(cls.__name__)

    template = fulfilment()

    @template.step
    @app.task(base=Noted)
    def fetch(step: StepContext) -> int:
        return step.attempt

    @template.step(max_attempts=2)
    @shared_task
    def merge(fetch: int) -> int:
        return fetch

    assert made == []
    assert template.definition.parents == {"fetch": (), "merge": ("fetch",)}
    assert "fetch" in made
    app.close()


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (lambda t: t.add_step(Gateway()), "has no name of its own; give the step a name="),
        (lambda t: t.add_step(Gateway), "is a class; register an object of it"),
        (
            lambda t: t.step(depends_on="validate")(ship),
            "depends_on takes a list of step names, not 'validate'",
        ),
        (lambda t: t.step(depends_on=[validate])(ship), "depends_on takes a list of step names"),
        (lambda t: t.step(retry=Retry(), max_attempts=2)(ship), "give max_attempts or retry, not both"),
        (
            lambda t: t.step(max_attempt=2)(ship),
            '"max_attempt" is no keyword of a step; did you mean "max_attempts"?',
        ),
        (lambda t: t.step(max_attempts=0)(ship), "retry max_attempts: must be a whole number from 1"),
        (
            lambda t: (t.add_step(ship), t.add_step(charge, name="ship")),
            'two callables are named "orders/ful',
        ),
    ],
)
def test_what_cannot_be_declared_is_refused_at_once(
    declare: Callable[[TaskTemplate], object], problem: str
) -> None:
    found = problems_of(lambda: declare(fulfilment()))
    assert problem in found
    assert "tests/unit/test_registry.py:" in found


def test_a_refused_declaration_names_the_line_that_wrote_it() -> None:
    template = fulfilment()
    line = test_a_refused_declaration_names_the_line_that_wrote_it.__code__.co_firstlineno
    for number, declare in enumerate(
        (
            lambda: Retry(max_attempts=0),
            lambda: template.step(max_attempts=0)(ship),
            lambda: template.add_step(Gateway, name="charge"),
            lambda: template.step(max_attempt=3)(ship),  # type: ignore[call-overload]
            lambda: step_handler("orders.pay")(Gateway),
        ),
        start=line + 5,
    ):
        assert problems_of(declare).startswith(f"tests/unit/test_registry.py:{number}: ")


def test_a_step_cannot_be_added_to_a_template_in_use() -> None:
    template = fulfilment()
    template.step(ship)
    assert template.definition is template.definition
    assert "already in use" in problems_of(lambda: template.step(validate))


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([refund, charge, validate], 'has no default; did you mean "charge"? ('),
        ([loop_one, loop_two], "a cycle: loop_one -> loop_two -> loop_one"),
        ([myself], "a cycle: myself -> myself"),
        ([], "steps: a template needs at least one step"),
    ],
)
def test_the_rest_is_checked_at_first_use_and_names_file_and_line(
    steps: list[Callable[..., Any]], problem: str
) -> None:
    template = fulfilment(context=Order)
    for step in steps:
        template.step(step)
    found = problems_of(lambda: template.definition)
    assert problem in found
    assert "tests/unit/test_registry.py:" in found


def test_the_line_of_a_problem_is_that_of_the_step() -> None:
    template = fulfilment()
    template.step(queue="no good")(ship)
    line = ship.__code__.co_firstlineno
    assert problems_of(lambda: template.definition) == (
        f"tests/unit/test_registry.py:{line}: step \"ship\", queue: 'no good' is not the name of a queue"
    )


def test_a_context_type_without_schema_is_a_problem_of_the_template() -> None:
    template = fulfilment(context=Callable[[int], int])
    template.step(ship)
    assert "context: " in problems_of(lambda: template.definition)
    assert "has no JSON Schema" in problems_of(lambda: template.definition)


def test_a_context_type_that_is_no_object_is_a_problem_of_the_template() -> None:
    template = fulfilment(context=list[int])
    template.step(ship)
    assert "describes no object" in problems_of(lambda: template.definition)


# --- the registry -------------------------------------------------------------------------------


def test_one_name_has_one_callable_and_the_error_names_both(process_registry: Registry) -> None:
    step_handler("orders.charge")(charge)
    step_handler("orders.charge")(charge)
    found = problems_of(lambda: step_handler("orders.charge")(validate))
    assert found.startswith('two callables are named "orders.charge": ')
    for function in (charge, validate):
        where = (
            f"{__name__}:{function.__name__}, tests/unit/test_registry.py:{function.__code__.co_firstlineno}"
        )
        assert where in found
    assert process_registry.handlers["orders.charge"].call is charge


def test_a_bound_method_is_the_same_callable_at_each_access() -> None:
    gateway = Gateway()
    step_handler("orders.charge")(gateway.charge)
    step_handler("orders.charge")(gateway.charge)
    assert "two callables" in problems_of(lambda: step_handler("orders.charge")(Gateway().charge))


def test_a_file_imported_twice_is_recognised() -> None:
    def again() -> Callable[[], None]:
        def handler() -> None: ...

        return handler

    step_handler("orders.charge")(again())
    assert "one file, imported under two module names" in problems_of(
        lambda: step_handler("orders.charge")(again())
    )


def test_templates_share_handlers_by_name(process_registry: Registry) -> None:
    for name in ("orders/one", "orders/two"):
        TaskTemplate(name, version="1.0.0").step(handler="orders.ship")(ship)
    process_registry.check()
    assert list(process_registry.handlers) == ["orders.ship"]


def test_a_template_version_is_declared_once(process_registry: Registry) -> None:
    template = fulfilment()
    assert "two templates are named orders/fulfilment@1.0.0: tests/unit/test_registry.py:" in problems_of(
        fulfilment
    )
    assert process_registry.template("orders/fulfilment", "1.0.0") is template
    assert process_registry.template("orders/fulfilment", "2.0.0") is None
    assert process_registry.templates == (template,)


def test_check_lists_the_problems_of_every_template(process_registry: Registry) -> None:
    for name in ("orders/one", "orders/two"):
        TaskTemplate(name, version="1.0.0")
    assert problems_of(process_registry.check).count("needs at least one step") == 2


@pytest.mark.parametrize("name", ["", "no good", 3, charge, "x" * 400])
def test_step_handler_takes_a_name(name: Any) -> None:
    assert "step_handler takes the name of a handler" in problems_of(lambda: step_handler(name))


# --- the public names ---------------------------------------------------------------------------


def test_public_names_are_listed_and_others_are_attribute_errors() -> None:
    assert set(tasker.__all__) <= set(dir(tasker))
    assert tasker.__version__
    with pytest.raises(AttributeError, match="module 'tasker' has no attribute 'Taskr'"):
        tasker.Taskr  # noqa: B018


def test_templates_are_held_to_the_settings_of_the_process_or_to_those_it_is_told(
    process_registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_TEMPLATE_MAX_STEPS", "1")
    template = TaskTemplate("orders/fulfilment", version="1.0.0")
    for name in ("one", "two"):
        template.add_step(validate, name=name)
    assert "2 steps are over the limit of 1" in problems_of(lambda: template.definition)
    file = tmp_path / "two.yaml"
    file.write_text("name: two\nversion: 1.0.0\nsteps: [{name: one}, {name: two}]")
    assert "2 steps are over the limit of 1" in problems_of(lambda: load_templates(file))
    process_registry.obey(Settings(template_max_steps=2))
    assert len(template.definition.steps) == 2
    assert len(load_templates(file)) == 1
