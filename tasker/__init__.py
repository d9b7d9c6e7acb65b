"""Tasker: durable task graphs on PostgreSQL and the Celery you already run.

Everything here loads at first use, so that `import tasker` and `tasker --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker.domain.errors import (
        IdempotencyConflict,
        NotFound,
        PermanentError,
        RetryableError,
        SchemaBehind,
        SettingsError,
        StateConflict,
        StepCancelled,
        StepFailed,
        StepNotComplete,
        StepNotFound,
        StepTimeout,
        TaskerError,
        TaskNotFound,
        TemplateConflict,
        TemplateError,
        TemplateNotFound,
        Unreachable,
        ValueRefused,
        WaitTimeout,
    )
    from tasker.domain.retry import Retry
    from tasker.events.catalogue import Event
    from tasker.events.signals import off, on
    from tasker.orchestration.client import Task, Tasker, TaskRequest
    from tasker.settings import Settings
    from tasker.worker.around import around_step
    from tasker.worker.context import StepContext
    from tasker.worker.template import TaskTemplate, step_handler
    from tasker.worker.yaml_file import load_templates

    __version__: str

__all__ = [
    "Event",
    "IdempotencyConflict",
    "NotFound",
    "PermanentError",
    "Retry",
    "RetryableError",
    "SchemaBehind",
    "Settings",
    "SettingsError",
    "StateConflict",
    "StepCancelled",
    "StepContext",
    "StepFailed",
    "StepNotComplete",
    "StepNotFound",
    "StepTimeout",
    "Task",
    "TaskNotFound",
    "TaskRequest",
    "TaskTemplate",
    "Tasker",
    "TaskerError",
    "TemplateConflict",
    "TemplateError",
    "TemplateNotFound",
    "Unreachable",
    "ValueRefused",
    "WaitTimeout",
    "__version__",
    "around_step",
    "load_templates",
    "off",
    "on",
    "step_handler",
]

_HOMES = {
    "Event": "tasker.events.catalogue",
    "Retry": "tasker.domain.retry",
    "Settings": "tasker.settings",
    "StepContext": "tasker.worker.context",
    "Task": "tasker.orchestration.client",
    "TaskRequest": "tasker.orchestration.client",
    "TaskTemplate": "tasker.worker.template",
    "Tasker": "tasker.orchestration.client",
    "around_step": "tasker.worker.around",
    "load_templates": "tasker.worker.yaml_file",
    "off": "tasker.events.signals",
    "on": "tasker.events.signals",
    "step_handler": "tasker.worker.template",
}
"""Where each public name lives; the names not listed are exceptions."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("tasker.domain.packaged").installed_version()
    elif name in __all__:
        value = getattr(import_module(_HOMES.get(name, "tasker.domain.errors")), name)
    else:
        raise AttributeError(f"module 'tasker' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
