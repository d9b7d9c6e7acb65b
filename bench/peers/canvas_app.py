"""The shapes as canvases of Celery, for two apps: with Redis as result backend, and without results.

Imported once the servers are known.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, Signature, chain, group

from bench.servers import BROKER, redis_at
from bench.shapes import Shape, step_result

ENDS = "bench-ends"

broker = os.environ[BROKER]
ends = redis_at(broker)

without_results = Celery("bench-canvas", broker=broker)
without_results.conf.update(task_ignore_result=True, task_default_queue="bench-canvas")

with_results = Celery("bench-results", broker=broker, backend=broker)
with_results.conf.update(task_default_queue="bench-results")


def step(inputs: Any = None, **work: Any) -> Any:
    """A step; its input is nothing, a result, or before a join a list, of lists where joins are nested."""
    return step_result(_flat(inputs), **work)


def _flat(inputs: Any) -> list[Any]:
    if isinstance(inputs, list):
        return [one for each in inputs for one in _flat(each)]
    return [] if inputs is None else [inputs]


def first(context: dict[str, Any], **work: Any) -> Any:  # noqa: ARG001 - it travels, as a context does
    """The first step, which gets the input of the whole."""
    return step(**work)


def both(inputs: list[Any]) -> list[Any]:
    """Nothing: the end of an inner chord, since a chord whose header ends in groups is polled for."""
    return inputs


def last(inputs: Any, **work: Any) -> Any:
    """The last step: notes its time and its result where the client waits."""
    result = step(inputs, **work)
    ends.rpush(ENDS, json.dumps([time.time(), result]))
    return result


for app in (without_results, with_results):
    for function in (first, step, both, last):
        app.task(function, name=f"bench.{function.__name__}")


def canvas_of(app: Celery, shape: Shape) -> Signature:
    """The canvas of a shape, of an app's tasks."""
    work = {"milliseconds": shape.milliseconds} if shape.milliseconds else {}
    if shape.heavy:
        work["heavy"] = True

    def signature(function: Callable[..., Any], *arguments: Any) -> Signature:
        return app.tasks[f"bench.{function.__name__}"].s(*arguments, **work)

    begin, end = signature(first, shape.context), signature(last)
    if shape.name.startswith("linear"):
        return chain(begin, signature(step), signature(step), end)
    if shape.name.startswith("tree"):
        half = chain(signature(step), group(signature(step), signature(step)), app.tasks["bench.both"].s())
        return chain(begin, group(half, half.clone()), end)
    return chain(begin, group(signature(step) for _ in range(len(shape.parents) - 2)), end)
