"""`@around_step`: code of the application that wraps every step a worker runs."""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from tasker.domain.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tasker.worker.context import StepContext

    Around = Callable[[StepContext], Iterator[None]]

F = TypeVar("F", bound="Around")

_arounds: list[Around] = []


def around_step(function: F) -> F:
    """Run this generator function around each step: to its one `yield`, then the handler, then the rest.

    It is called with the StepContext. The first registered is the outermost. What the handler raises is
    raised at the `yield` too; it cannot be swallowed there, only replaced by another exception.
    Registering a function again does nothing. Returns the function unchanged.
    """
    given: object = function
    if not inspect.isgeneratorfunction(given):
        raise TemplateError(f"@around_step takes a generator function that yields once, not {function!r}")
    if function not in _arounds:
        _arounds.append(function)
    return function


def around(step: StepContext) -> AbstractContextManager[object]:
    """The registered functions as one context manager: entered in order, left in reverse."""
    return _all_around(step) if _arounds else nullcontext()


@contextmanager
def _all_around(step: StepContext) -> Iterator[None]:
    with ExitStack() as entered:
        for function in _arounds:
            entered.enter_context(_unswallowed(function, step))
        yield


@contextmanager
def _unswallowed(function: Around, step: StepContext) -> Iterator[None]:
    """One function around a step. An exception it swallowed would turn a failed step into a complete one."""
    raised: BaseException | None = None
    with contextmanager(function)(step):
        try:
            yield
        except BaseException as exc:
            raised = exc
            raise
    if raised is not None:
        raise raised
