"""Parameters by name: what binds, to which type, and what cannot be a handler."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from celery import Celery, shared_task
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from tasker.domain.errors import PermanentError, TemplateError
from tasker.domain.templates import StepDefinition
from tasker.domain.values import fresh
from tasker.worker.binding import bind, problems
from tasker.worker.context import LateResults, StepContext
from tasker.worker.handler import Handler

if TYPE_CHECKING:
    from tasker.nowhere import Unseen  # type: ignore[import-not-found]

CONTEXT = {"order_id": 42, "amount": "9.50", "lines": [{"sku": "a"}]}


class Order(BaseModel):
    order_id: int
    amount: Decimal


class Receipt(BaseModel):
    paid: Decimal
    on: date = date(2026, 1, 1)


class StrictReceipt(BaseModel):
    model_config = ConfigDict(strict=True)

    paid: Decimal
    on: date


class Popping(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def pop_all(cls, given: dict[str, Any]) -> dict[str, Any]:
        given.clear()
        return given


class Stock(TypedDict):
    left: int


@dataclass
class Parcel:
    weight: float


class Unvalidatable:
    """A class that pydantic knows nothing about."""


def run(
    call: Callable[..., Any],
    results: Mapping[str, Any] | None = None,
    context: Any = None,
    context_type: Any = None,
) -> Any:
    """Bind the callable to a step whose parents are those of `results`, and call it."""
    results = {} if results is None else results
    context = CONTEXT if context is None else context
    definition = StepDefinition("charge", "orders.charge", depends_on=tuple(results))
    return bind(Handler("orders.charge", call), definition, context_type).call(
        context, results, step_context(results, context)
    )


def step_context(
    results: Mapping[str, Any], context: Any = None, load_result: Callable[[str], Any] = {}.__getitem__
) -> StepContext:
    return StepContext(
        task_id="0199",
        step_id=7,
        name="charge",
        attempt=2,
        max_attempts=3,
        results=results,
        context_json=context,
        load_result=load_result,
    )


def found(call: Any, *parents: str, steps: tuple[str, ...] = ()) -> list[str]:
    definition = StepDefinition("charge", "orders.charge", depends_on=parents)
    return list(problems(Handler("orders.charge", call), definition, steps))


# --- what the tests bind ------------------------------------------------------------------------


def takes_everything(context, step, results, reserve, note="none"):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return context, step, results, reserve, note


def takes_nothing() -> int:
    return 1


def takes_order(context: Order) -> Decimal:
    return context.amount


def takes_plain_context(context: dict[str, Any]) -> dict[str, Any]:
    context["lines"].clear()
    return context


def takes_bare_context(context) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return type(context).__name__


def takes_popping(context: Popping) -> None: ...


def takes_receipt(reserve: Receipt) -> str:
    return type(reserve).__name__


def takes_strict_receipt(reserve: StrictReceipt) -> Decimal:
    return reserve.paid


def takes_dict(reserve: dict[str, Any]) -> Any:
    return reserve


def takes_positive(reserve: Annotated[int, Field(gt=0)]) -> int:
    return reserve


def takes_stock(reserve: Stock) -> int:
    return reserve["left"]


def takes_parcel(reserve: Parcel) -> float:
    return reserve.weight


def takes_text(reserve: str) -> str:
    return reserve


def gives_receipt() -> Receipt:
    return {"paid": "1.5"}  # type: ignore[return-value]


def gives_list_for_dict() -> dict[str, Any]:
    return []  # type: ignore[return-value]


async def gives_later(context: Order) -> Receipt:
    await asyncio.sleep(0)
    return {"paid": context.amount}  # type: ignore[return-value]


def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return call(*arguments, **keywords)

    return wrapper


wrapped_receipt = wrapped(takes_receipt)
wrapped_later = wrapped(gives_later)


class Gateway:
    def __init__(self, name: str) -> None:
        self.name = name

    def charge(self, reserve: Receipt) -> str:
        return f"{self.name} {reserve.paid}"

    def __call__(self, context: Order) -> str:
        return f"{self.name} called for {context.order_id}"


def unseen_step(step: Unseen, results: Unseen, extra: Unseen = None) -> int:
    return step.attempt


def unseen_context(context: Unseen) -> None: ...


def unseen_result() -> Unseen: ...


def unvalidatable(reserve: Unvalidatable) -> None: ...


def generates() -> Iterator[int]:
    yield 1


async def generates_later() -> Any:
    yield 1


def takes_anything(*values: Any, **more: Any) -> None: ...


def takes_positions(reserve: dict[str, Any], /) -> None: ...


def takes_position_with_default(reserve: Any = None, /) -> None: ...


def misspelt(reserv: dict[str, Any]) -> None: ...


# --- binding ------------------------------------------------------------------------------------


def test_parameters_bind_by_name_and_defaults_stay() -> None:
    results = {"reserve": {"left": 1}, "audit": None}
    context, step, all_results, reserve, note = run(takes_everything, results)
    assert context == CONTEXT
    assert step.attempt == 2
    assert all_results is results
    assert reserve == {"left": 1}
    assert note == "none"
    assert run(takes_nothing) == 1


def test_the_context_is_validated_to_its_annotation() -> None:
    assert run(takes_order) == Decimal("9.50")
    assert run(takes_order, context_type=Receipt) == Decimal("9.50")


def test_a_context_without_annotation_is_the_templates_type_or_plain() -> None:
    assert run(takes_bare_context, context_type=Order) == "Order"
    assert run(takes_bare_context) == "dict"


def test_a_handler_cannot_change_the_context_that_other_steps_get() -> None:
    shared = fresh(CONTEXT)
    assert run(takes_plain_context, context=shared)["lines"] == []
    run(takes_popping, context=shared)
    step_context({}, shared).context["lines"].clear()
    assert shared == CONTEXT


def test_a_context_that_does_not_fit_fails_for_good_and_shows_no_values() -> None:
    with pytest.raises(PermanentError) as failed:
        run(takes_order, context={"order_id": "secret"})
    assert str(failed.value).startswith(
        "the context does not fit Order: order_id: Input should be a valid integer"
    )
    assert "amount: Field required" in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("call", "result", "expected"),
    [
        (takes_receipt, {"paid": "1.5"}, "Receipt"),
        (takes_strict_receipt, {"paid": "1.5", "on": "2026-01-01"}, Decimal("1.5")),
        (takes_dict, {"a": 1}, {"a": 1}),
        (takes_positive, 3, 3),
        (takes_stock, {"left": 2}, 2),
        (takes_parcel, {"weight": 2}, 2.0),
        (takes_text, "x", "x"),
        (takes_dict, None, None),
    ],
)
def test_a_parents_result_is_validated_to_its_annotation(
    call: Callable[..., Any], result: object, expected: object
) -> None:
    assert run(call, {"reserve": result}) == expected


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (takes_receipt, {}),
        (takes_dict, [1]),
        (takes_positive, 0),
        (takes_text, 1),
        (takes_stock, {"left": "x"}),
    ],
)
def test_a_parents_result_that_does_not_fit_fails_for_good(call: Callable[..., Any], result: object) -> None:
    with pytest.raises(PermanentError, match="the result of reserve does not fit"):
        run(call, {"reserve": result})


def test_a_parent_without_result_binds_none_whatever_the_annotation() -> None:
    def takes(reserve: Receipt | None) -> bool:
        return reserve is None

    assert run(takes, {"reserve": None}) is True


def test_the_result_is_validated_to_its_annotation() -> None:
    assert run(gives_receipt) == Receipt(paid=Decimal("1.5"))
    with pytest.raises(PermanentError, match="the result of charge does not fit dict"):
        run(gives_list_for_dict)


@pytest.mark.parametrize("call", [gives_later, wrapped_later])
def test_an_async_handler_gives_a_coroutine_of_the_validated_result(call: Callable[..., Any]) -> None:
    assert asyncio.run(run(call)) == Receipt(paid=Decimal("9.50"))


def test_methods_objects_partials_and_wrapped_functions_bind_by_their_own_parameters() -> None:
    gateway = Gateway("acme")
    assert run(gateway.charge, {"reserve": {"paid": "2"}}) == "acme 2"
    assert run(gateway) == "acme called for 42"
    assert run(wrapped_receipt, {"reserve": {"paid": "2"}}) == "Receipt"
    assert run(functools.partial(takes_everything, note="partial"), {"reserve": 1})[-1] == "partial"


def test_only_the_annotations_that_are_needed_are_evaluated() -> None:
    assert run(unseen_step) == 2


def test_results_of_many_parents_load_when_a_parameter_names_one() -> None:
    loads: list[int] = []

    def load() -> dict[str, Any]:
        loads.append(1)
        return {f"part-{n}": n for n in range(200)} | {"reserve": {"left": 1}}

    late = LateResults(load)
    definition = StepDefinition("charge", "orders.charge", depends_on=("reserve",))
    binding = bind(Handler("orders.charge", takes_everything), definition)
    assert repr(late) == "LateResults(not loaded)"
    assert binding.call(CONTEXT, late, step_context(late, CONTEXT))[3] == {"left": 1}
    assert late["part-7"] == 7
    assert (len(late), len(loads)) == (201, 1)


# --- Celery tasks -------------------------------------------------------------------------------


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("shop", set_as_current=True)
    yield app
    app.close()


def test_celery_tasks_bind_by_the_parameters_of_their_body(app: Celery) -> None:
    @app.task
    def plain(reserve: dict[str, Any]) -> int:
        return int(reserve["left"])

    @app.task(bind=True)
    def bound(self: Any, context: Order) -> str:
        return f"{self.name.rpartition('.')[2]} {context.order_id}"

    @shared_task
    def shared(context: Order, reserve: dict[str, Any]) -> list[Any]:
        return [context.order_id, reserve["left"]]

    @app.task(autoretry_for=(ValueError,), max_retries=5)
    def failing(context: dict[str, Any]) -> None:
        raise ValueError("as raised")

    assert run(plain, {"reserve": {"left": 3}}) == 3
    assert run(bound) == "bound 42"
    assert run(shared, {"reserve": {"left": 3}}) == [42, 3]
    assert found(plain) == [
        'the parameter "reserve" is neither context, step, results nor a parent, and has no default'
    ]
    with pytest.raises(ValueError, match="as raised"):
        run(failing)


def test_a_celery_tasks_own_call_is_kept(app: Celery) -> None:
    class InAppContext(app.Task):  # type: ignore[name-defined,misc]
        def __call__(self, *arguments: Any, **keywords: Any) -> Any:
            return "in context", super().__call__(*arguments, **keywords)

    @app.task(base=InAppContext)
    def task(context: Order) -> Any:
        return context.order_id

    assert run(task) == ("in context", 42)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (Gateway, "is a class; register an object of it"),
        (generates, "is a generator; return one value"),
        (generates_later, "is a generator"),
        (lambda context: context, "is a lambda; define a function"),
        (3, "is not callable but int"),
        (takes_anything, "the parameter \"*values: 'Any'\" takes anything"),
        (takes_anything, "the parameter \"**more: 'Any'\" takes anything"),
        (takes_positions, 'the parameter "reserve" is positional-only'),
        (takes_position_with_default, 'the parameter "reserve" is positional-only'),
        (Gateway.charge, 'the parameter "self" has no value; register the bound method'),
        (
            misspelt,
            'neither context, step, results nor a parent, and has no default; did you mean "reserve"?',
        ),
        (
            unseen_context,
            "the annotation 'Unseen' of \"context\" cannot be evaluated (name 'Unseen' is not defined)",
        ),
        (unseen_result, "the annotation 'Unseen' of \"return\" cannot be evaluated"),
        (unvalidatable, "pydantic cannot validate to the annotation"),
        (dict.fromkeys, 'the parameter "iterable" is positional-only'),
        (type, "is a class"),
        (print, 'the parameter "*args" takes anything'),
    ],
)
def test_what_cannot_be_bound_is_refused_with_the_remedy(call: Any, problem: str) -> None:
    assert any(problem in message for message in found(call, "reserve", steps=("reserve", "charge"))), found(
        call, "reserve"
    )


def test_a_parameter_naming_a_step_that_is_no_parent_is_refused_even_with_a_default() -> None:
    def takes(audit: Any = None) -> None: ...

    assert found(takes, "reserve", steps=("reserve", "audit")) == [
        'the parameter "audit" names a step that is not a parent; add it to depends_on'
    ]
    assert found(takes, "reserve", steps=("reserve",)) == []


def test_bind_refuses_what_check_refuses_and_says_where_the_handler_is() -> None:
    with pytest.raises(
        TemplateError, match=r'step "charge", handler .*misspelt, .*test_binding\.py:\d+: the parameter'
    ):
        run(misspelt)


# --- StepContext --------------------------------------------------------------------------------


def test_a_step_knows_its_attempt_and_its_key() -> None:
    step = step_context({})
    assert (step.is_retry, step.is_last_attempt) == (True, False)
    step.attempt = 3
    assert step.is_last_attempt
    assert step.idempotency_key == "0199/charge"


def test_a_result_comes_from_the_parents_at_hand_or_is_loaded() -> None:
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        return {"paid": "7"}

    step = step_context({"reserve": {"paid": "5"}, "skipped": None}, load_result=load)
    assert step.result("reserve") == {"paid": "5"}
    assert step.result("skipped", Receipt) is None
    assert loaded == []
    assert step.result("validate", Receipt) == Receipt(paid=Decimal(7))
    assert loaded == ["validate"]
    with pytest.raises(PermanentError, match="the result of reserve does not fit Stock"):
        step.result("reserve", Stock)


def test_a_step_shows_itself_without_its_data() -> None:
    assert "9.50" not in repr(step_context({"reserve": CONTEXT}, CONTEXT))


def test_the_log_names_task_step_and_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    step = step_context({})
    step.log.info("charging", amount=json.dumps("9.50"))
    line = capsys.readouterr().out
    assert all(part in line for part in ("charging", "0199", "charge", "attempt", "amount"))
    assert step.log is step.log
