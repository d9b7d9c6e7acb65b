"""What Tasker's worker runs here: a template for each shape. Imported once the servers are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery

from bench import statements
from bench.servers import BROKER
from bench.shapes import SHAPES, Shape, step_result
from tasker import Tasker, TaskTemplate

app = Celery("bench-tasker", broker=os.environ[BROKER])
app.conf.task_default_queue = "bench-tasker"
tasker = Tasker(celery=app)


def _handler(shape: Shape) -> Callable[..., Any]:
    work = partial(step_result, milliseconds=shape.milliseconds, heavy=shape.heavy)

    def step(results: Mapping[str, Any]) -> Any:
        return work(results.values())

    return step


_handlers: dict[str, Callable[..., Any]] = {}
templates: dict[str, TaskTemplate] = {}
for _shape in SHAPES.values():
    _call = _handlers.setdefault(_shape.work, _handler(_shape))
    templates[_shape.name] = TaskTemplate(f"bench/{_shape.name}", version="1.0.0")
    for _name, _parents in _shape.parents.items():
        templates[_shape.name].add_step(
            _call, name=_name, handler=f"bench.{_shape.work}", depends_on=_parents
        )

if statements.COUNTER in os.environ:
    statements.count_in_children(Path(os.environ[statements.COUNTER]))
