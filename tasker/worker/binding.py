"""From a handler's parameters, by name, to the call of it.

`context` is the task's input, `step` the StepContext, `results` the parents' results, `connection` the
transaction of a transactional step, and the name of a parent its result; each is validated to its annotation.
"""

from __future__ import annotations

import inspect
from types import CoroutineType, NoneType
from typing import TYPE_CHECKING, Any

from tasker.domain.errors import TemplateError
from tasker.domain.fit import fit_to
from tasker.domain.templates import RESERVED_STEP_NAMES
from tasker.domain.values import fresh
from tasker.domain.wording import did_you_mean
from tasker.worker.handler import Handler, annotation, is_async, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from tasker.domain.fit import Fit
    from tasker.domain.templates import StepDefinition
    from tasker.worker.context import StepContext


_UNBOUND = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Binding:
    """A handler bound to one step of a template."""

    __slots__ = (
        "_context",
        "_handler",
        "_parents",
        "_result",
        "_takes_connection",
        "_takes_results",
        "_takes_step",
        "connection_kind",
    )

    def __init__(self, handler: Handler, step: StepDefinition, context_type: Any) -> None:
        call = handler.call
        names = [parameter.name for parameter in handler.parameters]
        self._handler = call
        self._takes_step = "step" in names
        self._takes_results = "results" in names
        self._takes_connection = step.transactional
        self.connection_kind = _connection_kind(call) if step.transactional else NoneType
        self._context = _context_fit(call, context_type) if "context" in names else None
        self._parents = tuple(
            (name, fit_to(annotation(call, name), f"the result of {name}", from_json=True))
            for name in names
            if name in step.depends_on
        )
        self._result = fit_to(annotation(call, "return"), f"the result of {step.name}", from_json=False)

    def call(
        self,
        context: Any,
        parent_results: Mapping[str, Any],
        step: StepContext,
        connection: Any = None,
    ) -> Any:
        """Call the handler; of an `async def` handler the coroutine, whose value is the same.

        `context` is the task's, as plain JSON; it may serve other steps, so handlers get copies.
        `parent_results` holds every parent and belongs to this step alone.
        Raises what the handler raises; PermanentError when an input or the result does not fit.
        """
        arguments: dict[str, Any] = {}
        if self._context is not None:
            arguments["context"] = self._context(context)
        if self._takes_step:
            arguments["step"] = step
        if self._takes_results:
            arguments["results"] = parent_results
        if self._takes_connection:
            arguments["connection"] = connection
        for name, fit in self._parents:
            value = parent_results[name]
            arguments[name] = value if fit is None or value is None else fit(value)
        result = self._handler(**arguments)
        if type(result) is CoroutineType:
            return self._awaited(result)
        return result if self._result is None else self._result(result)

    async def _awaited(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        result = await coroutine
        return result if self._result is None else self._result(result)


def bind(handler: Handler, step: StepDefinition, context_type: Any = None) -> Binding:
    """Bind once per handler and step; of `step` its name and its parents count.

    `context_type` is the template's, for a `context` parameter without annotation. Raises TemplateError
    with what `problems` finds.
    """
    found = list(problems(handler, step, ()))
    if found:
        raise TemplateError([f'step "{step.name}", handler {handler.where}: {message}' for message in found])
    return Binding(handler, step, context_type)


def problems(handler: Handler, step: StepDefinition, steps: Collection[str]) -> Iterator[str]:
    """What keeps the handler from running as this step; `steps` are the names of the whole template."""
    refused = refusal(handler.call)
    if refused:
        yield f"the handler {refused}"
        return
    try:
        taken = handler.parameters
    except TemplateError as exc:
        yield str(exc)
        return
    evaluated = ["return"]
    for parameter in taken:
        wrong = _parameter_problem(parameter, step, steps)
        if wrong:
            yield wrong
        elif parameter.name == "context" or parameter.name in step.depends_on:
            evaluated.append(parameter.name)
    if step.transactional:
        yield from _transaction_problems(handler.call, {parameter.name for parameter in taken})
    for name in evaluated:
        try:
            fit_to(annotation(handler.call, name), name, from_json=name != "return")
        except TemplateError as exc:
            yield str(exc)


def _connection_kind(call: Callable[..., Any]) -> type:
    from tasker.db.transaction import connection_kind  # only who has transactional steps pays for it

    return connection_kind(annotation(call, "connection"))


def _transaction_problems(call: Callable[..., Any], taken: set[str]) -> Iterator[str]:
    if is_async(call):
        yield "a transactional step needs a plain function, not an async one"
    if "connection" not in taken:
        yield 'a transactional step takes a parameter "connection", through which it writes'
        return
    try:
        _connection_kind(call)
    except TemplateError as exc:
        yield str(exc)


def parents_by_parameter(handler: Handler, steps: Collection[str]) -> list[str]:
    """The steps that the handler's parameters name."""
    return [parameter.name for parameter in handler.parameters if parameter.name in steps]


def _parameter_problem(
    parameter: inspect.Parameter, step: StepDefinition, steps: Collection[str]
) -> str | None:
    name = parameter.name
    has_default = parameter.default is not parameter.empty
    if parameter.kind in _UNBOUND:
        return (
            f'the parameter "{parameter}" takes anything, so nothing can be bound to it; name what it needs'
        )
    is_bound = name in RESERVED_STEP_NAMES or name in step.depends_on
    if parameter.kind is parameter.POSITIONAL_ONLY and (is_bound or not has_default):
        return f'the parameter "{name}" is positional-only; parameters bind by name'
    if name == "connection" and not step.transactional and not has_default:
        return 'only a transactional step has a "connection"; declare the step with transactional=True'
    if is_bound:
        return None
    if name in steps:
        return f'the parameter "{name}" names a step that is not a parent; add it to depends_on'
    return None if has_default else _missing(name, [*RESERVED_STEP_NAMES, *(steps or step.depends_on)])


def _missing(name: str, known: list[str]) -> str:
    if name in ("self", "cls"):
        return f'the parameter "{name}" has no value; register the bound method of an object with add_step'
    return (
        f'the parameter "{name}" is neither context, step, results nor a parent, and has no default'
        + did_you_mean(name, known)
    )


def _context_fit(call: Callable[..., Any], context_type: Any) -> Fit:
    declared = annotation(call, "context")
    fit = fit_to(
        context_type if declared is Any and context_type else declared, "the context", from_json=True
    )
    return fresh if fit is None else lambda context: fit(fresh(context))
