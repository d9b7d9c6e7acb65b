"""Storing template definitions: by workers at start, by `template register`, by a submit that needs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from tasker.db import functions
from tasker.domain.version import version_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasker.db.engine import Database
    from tasker.domain.templates import TemplateDefinition


class HasDefinition(Protocol):
    """A template of this process."""

    @property
    def definition(self) -> TemplateDefinition:
        """The checked definition."""


def store_templates(database: Database, templates: Iterable[HasDefinition], queue: str) -> list[str]:
    """Store the versions that the database lacks; their names, `ns/name@version`. Repeats safely.

    `queue` is that of steps that name none. Raises TemplateError for a broken template and TemplateConflict
    for a version stored with another content.
    """
    definitions = [template.definition for template in templates]
    return [f"{each.full_name}@{each.version}" for each in definitions if store(database, each, queue)]


def store(database: Database, definition: TemplateDefinition, queue: str) -> bool:
    """Store one version; False if it was there."""
    return database.call(
        functions.register_template,
        json.dumps(definition.to_json()),
        definition.digest,
        version_key(definition.version),
        queue,
    )
