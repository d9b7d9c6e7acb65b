"""Versions for templates that are edited under `tasker dev`: after `1.0.0` comes `1.0.0+dev.1`.

Elsewhere a version that is stored never changes, and edits want a new one. Here they would want one a minute.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasker.db import queries
from tasker.worker import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasker.db.engine import Database
    from tasker.domain.records import TemplateRecord
    from tasker.domain.templates import TemplateDefinition
    from tasker.worker.registry import Template


class Edited:
    """A template under a version of its own."""

    def __init__(self, template: Template, version: str) -> None:
        self.full_name = template.full_name
        self.version = version
        self.context_type: Any = template.context_type
        self.location = template.location
        self.definition: TemplateDefinition = replace(template.definition, version=version)


def number_edited(database: Database) -> Iterator[str]:
    """Give each template of this process that differs from the newest stored one the next version.

    A line for people on each of them. Raises TemplateError for a broken template.
    """
    for template in registry.process.templates:
        definition = template.definition
        stored = database.call(queries.list_templates, namespace=definition.namespace, name=definition.name)
        newest = next((each for each in stored if _number(each, template.version) is not None), None)
        if newest is None:
            continue
        version = newest.version
        if replace(definition, version=version).digest != newest.digest:
            version = f"{template.version}+dev.{(_number(newest, template.version) or 0) + 1}"
            yield f"{template.full_name} was edited; until it gets a version of its own it is {version}"
        if version != template.version:
            registry.process.exchange_template(template, Edited(template, version))


def _number(stored: TemplateRecord, version: str) -> int | None:
    """Which edit of `version` this is, 0 for itself, None for another version."""
    if stored.version == version:
        return 0
    core, _, number = stored.version.partition("+dev.")
    return int(number) if core == version and number.isdigit() else None
