"""One step: bind, call, encode; whatever happens becomes an outcome."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any
from uuid import UUID

from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerTerminate

from tasker.db import functions
from tasker.domain.errors import (
    PermanentError,
    StepCancelled,
    StepNotComplete,
    StepNotFound,
    StepTimeout,
)
from tasker.domain.outcomes import Outcome, failed
from tasker.domain.states import SATISFYING
from tasker.domain.templates import StepDefinition
from tasker.domain.values import encode
from tasker.settings import redaction
from tasker.worker import registry
from tasker.worker.around import around
from tasker.worker.binding import Binding, bind
from tasker.worker.context import LateResults, StepContext
from tasker.worker.report import report_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tasker.domain.replies import ClaimedStep
    from tasker.orchestration.engine import Engine
    from tasker.worker.limits import Limits, Running
    from tasker.worker.transactional import InTransaction


MOST_BINDINGS = 4096
"""Kept for the steps that come again; one that does not, of a task of 100 000, must not be kept for ever."""

_log = logging.getLogger(__name__)


class Executor:
    """Calls the handlers of this process."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._database = engine.database
        self._settings = engine.settings
        self._redaction = redaction(engine.settings)
        self._limits = limits
        self._engine = engine
        self._bindings: dict[tuple[str, ...], Binding] = {}
        self._loops = threading.local()

    def execute(self, step: ClaimedStep, task: Mapping[str, Any]) -> Outcome | None:
        """Run a claimed step of `task` (its context, correlation id, template and version).

        None for a transactional step whose completion went with its transaction: nothing is left to record.
        Raises only when this process is told to end: the attempt is then nobody's failure.
        """
        begun = time.monotonic()
        _log.debug("step %s of task %s begins", step.name, step.task_id)
        try:
            if step.transactional:
                kind = self._binding(step, task, self._results(step)).connection_kind
                self._in_transaction.run(step, kind, partial(self._call, step, task), begun)
                return None
            text = self._call(step, task)
        except BaseException as error:
            running = self._limits.of(threading.get_ident())
            if running is not None:
                # what the handler was told hit the end of its limits, and comes no second time
                self._limits.end(running)
            outcome = failed(
                step,
                error,
                begun,
                time.monotonic(),
                self._settings.error_max_bytes,
                redaction=self._redaction,
            )
            # asked last: it may also be told while the error is read, which lets nothing out
            if terminate_handler_fired() or issubclass(type(error), WorkerTerminate):
                raise
            if not issubclass(type(error), StepCancelled):  # somebody else has ended it, and said why
                report_failure(outcome)
            return outcome
        _log.debug("step %s of task %s has returned", step.name, step.task_id)
        return Outcome(step, begun, time.monotonic(), result=text)

    @cached_property
    def _in_transaction(self) -> InTransaction:
        # it loads SQLAlchemy's ORM: only who has transactional steps pays for it
        from tasker.worker.transactional import InTransaction

        return InTransaction(self._engine)

    def _call(self, step: ClaimedStep, task: Mapping[str, Any], connection: Any = None) -> str:
        results = self._results(step)
        binding = self._binding(step, task, results)
        context = StepContext(
            task_id=step.task_id,
            step_id=step.id,
            name=step.name,
            attempt=step.failures + 1,
            max_attempts=step.max_attempts,
            correlation_id=task["correlation_id"],
            config=step.config or {},
            results=results,
            context_json=task["context"],
            load_result=partial(self._load_result, step.task_id),
            deadline=datetime.fromisoformat(task["deadline"]) if task["deadline"] else None,
        )
        value = self._within_limits(
            step, context, partial(binding.call, task["context"], results, context, connection)
        )
        return encode(
            value,
            limit_bytes=self._settings.result_max_bytes,
            max_depth=self._settings.value_max_depth,
            where=f"the result of {step.name}",
        )

    def _within_limits(self, step: ClaimedStep, context: StepContext, call: Callable[[], Any]) -> Any:
        running = self._limits.begin(step)
        try:
            context.is_cancelled = running.is_cancelled
            with around(context):
                value = call()
                return self._awaited(value, running) if iscoroutine(value) else value
        except (StepTimeout, StepCancelled) as told:
            if not told.args:  # raised by its class
                told.args = running.error().args
            raise
        finally:
            self._limits.end(running)

    def _binding(self, step: ClaimedStep, task: Mapping[str, Any], results: Mapping[str, Any]) -> Binding:
        key = (step.handler, step.name, task["template"], task["version"])
        binding = self._bindings.get(key)
        if binding is None:
            if len(self._bindings) >= MOST_BINDINGS:
                self._bindings.clear()
            binding = self._bindings[key] = _bind(step, task, results)
        return binding

    def _results(self, step: ClaimedStep) -> Mapping[str, Any]:
        if step.results is not None:
            return step.results
        if step.parents == 0:
            return {}
        return LateResults(partial(self._database.call, functions.parent_results, step.id))

    def _load_result(self, task_id: str, name: str) -> Any:
        found = self._database.call(functions.step_results, UUID(task_id), [name])
        if name not in found:
            raise StepNotFound(f"task {task_id} has no step {name!r}")
        if found[name]["state"] not in SATISFYING:
            raise StepNotComplete(f"step {name} is {found[name]['state']}; depend on it to get its result")
        return found[name]["result"]

    def _awaited(self, coroutine: Coroutine[Any, Any, Any], running: Running) -> Any:
        loop = self._event_loop()
        task = running.task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError as cancelled:
            if not running.raised:
                raise
            raise running.error().with_traceback(cancelled.__traceback__) from None
        finally:
            running.task = None
            if not task.done():  # what was raised hit the loop; the next step needs it empty
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    loop.run_until_complete(task)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        # one per thread and kept, so that the clients a handler opens on it stay usable
        if not hasattr(self._loops, "loop"):
            self._loops.loop = asyncio.new_event_loop()
        loop: asyncio.AbstractEventLoop = self._loops.loop
        return loop


def _bind(step: ClaimedStep, task: Mapping[str, Any], results: Mapping[str, Any]) -> Binding:
    handler = registry.process.handlers.get(step.handler)
    if handler is None:
        raise PermanentError(
            f"this worker announced handler {step.handler} but does not have it; restart it with the right -A"
        )
    template = registry.process.template(task["template"], task["version"])
    # a version that is only in the database: its parents are those whose results came along
    parents = tuple(results) if template is None else template.definition.parents[step.name]
    definition = StepDefinition(step.name, step.handler, parents, transactional=step.transactional)
    return bind(handler, definition, None if template is None else template.context_type)
