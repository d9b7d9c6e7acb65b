"""Storing template definitions: by workers at start, by `template register`, by a submit that needs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from tasker.db import functions
from tasker.domain.difference import conflict_text
from tasker.domain.errors import TemplateConflict
from tasker.domain.templates import TemplateDefinition
from tasker.domain.version import version_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasker.db.engine import Database


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
    """Store one version; False if it was there. Raises TemplateConflict."""
    text = json.dumps(definition.to_json())
    key = version_key(definition.version)
    try:
        return database.call(functions.register_template, text, definition.digest, key, queue)
    except TemplateConflict as conflict:
        raise explained(conflict, [definition]) from None


def explained(conflict: TemplateConflict, given: Iterable[TemplateDefinition]) -> TemplateConflict:
    """The conflict with what differs between what is stored and the one of `given` that it is about."""
    if conflict.stored is None:
        return conflict
    stored = TemplateDefinition.from_json(conflict.stored)
    for each in given:
        if (each.full_name, each.version) == (stored.full_name, stored.version):
            return TemplateConflict(conflict_text(stored, each), conflict.stored)
    return conflict
