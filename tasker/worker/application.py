"""`-A MODULE`: import an application's templates and handlers, and find its Celery app."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery

from tasker import broker
from tasker.domain.errors import SettingsError
from tasker.domain.loading import loading
from tasker.worker import registry

if TYPE_CHECKING:
    from types import ModuleType

    from tasker.settings import Settings


def load(module: str, settings: Settings) -> Celery:
    """Import `module` (`package.module` or `module:attribute`) with the current folder on the path.

    Returns the Celery app that Celery would find there (the attribute named, else `app`, `celery`, or any
    Celery instance), else one of our own, ready to run steps. Raises SettingsError when the module cannot be
    imported, and whatever declaring its templates raises.
    """
    found = _celery_app(import_application(module, settings), module.partition(":")[2])
    app = broker.connected(found, settings) if found else broker.celery_app(settings)
    broker.attach(app, settings)
    return app


def import_application(module: str, settings: Settings) -> ModuleType:
    """Import `module`, the current folder on the path; its templates and handlers are then registered.

    Its templates are held to the limits of `settings`.

    Raises SettingsError when there is no such module, and whatever declaring its templates raises.
    """
    registry.process.obey(settings)
    name = module.partition(":")[0]
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with loading(name):
            return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise SettingsError(
                f"-A {name}: there is no module {error.name} in {here} or on PYTHONPATH"
            ) from None
        raise


def _celery_app(module: ModuleType, attribute: str) -> Celery | None:
    if attribute:
        named = getattr(module, attribute, None)
        if not isinstance(named, Celery):
            raise SettingsError(f"-A {module.__name__}:{attribute} is {named!r}, not a Celery app")
        return named
    candidates = [getattr(module, name, None) for name in ("app", "celery")] + list(vars(module).values())
    return next((each for each in candidates if isinstance(each, Celery)), None)
