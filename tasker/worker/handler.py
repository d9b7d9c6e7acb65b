"""Handlers: the callables that do the steps' work, under their names, and what can be read off them."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasker.domain.errors import TemplateError
from tasker.domain.places import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Handler:
    """A callable under the name that definitions use; `where` is `module:qualname, file:line`."""

    name: str
    call: Callable[..., Any]

    @property
    def location(self) -> str:
        """`file:line` of the code, the file relative to the current folder where it lies inside."""
        code = getattr(inspect.unwrap(_function(self.call)), "__code__", None)
        return f"{shown_path(code.co_filename)}:{code.co_firstlineno}" if code else "built-in code"

    @property
    def where(self) -> str:
        """`module:qualname, file:line`."""
        function = inspect.unwrap(_function(self.call))
        return f"{function.__module__}:{function.__qualname__}, {self.location}"

    @functools.cached_property
    def parameters(self) -> list[inspect.Parameter]:
        """The parameters that bind; a Celery task's are those of its body. Raises TemplateError."""
        try:
            return list(inspect.signature(_body(self.call)).parameters.values())
        except (TypeError, ValueError) as exc:
            raise TemplateError(f"the parameters of {self.call!r} cannot be read: {exc}") from exc

    def is_same(self, call: Callable[..., Any]) -> bool:
        """Whether `call` is this handler's callable; a bound method is a new object at each access."""
        return call is self.call or (
            type(call) is types.MethodType and type(self.call) is types.MethodType and call == self.call
        )


def handler_name(call: Callable[..., Any]) -> str | None:
    """The name a step gets when none is given; None for objects that have none."""
    name = getattr(_proxied(call) or call, "__name__", None)
    return name if isinstance(name, str) else None


def refusal(call: object) -> str | None:
    """Why this cannot be a handler, or None. A Celery task that is not yet bound to its app passes."""
    if _is_proxy(call):
        return None
    if isinstance(call, type):
        return "is a class; register an object of it, or a method of that object"
    if not callable(call):
        return f"is not callable but {type(call).__name__}"
    function = _function(call)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "is a generator; return one value"
    if getattr(function, "__name__", "") == "<lambda>":
        return "is a lambda; define a function, whose name can be shown"
    return None


def is_async(call: Callable[..., Any]) -> bool:
    """Whether calling the handler gives a coroutine."""
    return inspect.iscoroutinefunction(_function(call))


def annotation(call: Callable[..., Any], name: str) -> Any:
    """The evaluated annotation of a parameter, or of the result (`return`); Any when there is none.

    Only the annotation asked for is evaluated, so that others may name what only a type checker sees.
    Raises TemplateError.
    """
    function = inspect.unwrap(_function(call))
    written = getattr(function, "__annotations__", {})
    if name not in written:
        return Any
    one = types.SimpleNamespace(
        __annotations__={name: written[name]}, __type_params__=getattr(function, "__type_params__", ())
    )
    try:
        hints = typing.get_type_hints(one, getattr(function, "__globals__", {}), include_extras=True)
    except Exception as exc:
        raise TemplateError(
            f'the annotation {written[name]!r} of "{name}" cannot be evaluated ({exc}); it must name '
            "something imported at run time (not under TYPE_CHECKING) or defined at the module's top level"
        ) from exc
    return hints[name]


def _body(call: Any) -> Any:
    """What a Celery task runs: calling the task reaches it, its parameters are the ones that count."""
    return call.run if hasattr(call, "apply_async") and callable(getattr(call, "run", None)) else call


def _function(call: Callable[..., Any]) -> Any:
    """The plain function behind a method, a partial, a callable object or a Celery task."""
    function: Any = _proxied(call) or _body(call)
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, staticmethod | classmethod | types.MethodType):
        return function.__func__
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


def _is_proxy(call: object) -> bool:
    """Whether this is what `@app.task` and `@shared_task` return before Celery has made the task."""
    return type(call).__module__ == "celery.local"


def _proxied(call: object) -> types.FunctionType | None:
    """The function inside such a proxy.

    Asking the proxy itself would make Celery choose and configure an app in the middle of an import.
    """
    if not _is_proxy(call):
        return None
    held = [*object.__getattribute__(call, "_Proxy__args")] if _has(call, "_Proxy__args") else []
    local = object.__getattribute__(call, "_Proxy__local") if _has(call, "_Proxy__local") else None
    held += [cell.cell_contents for cell in getattr(local, "__closure__", None) or ()]
    return next((item for item in held if type(item) is types.FunctionType), None)


def _has(proxy: object, slot: str) -> bool:
    try:
        object.__getattribute__(proxy, slot)
    except AttributeError:
        return False
    return True
