"""Contexts submitted by a template's name, held against the schema stored with it, which nothing hot reads.

A process knows of no schema until PostgreSQL refuses a submit for want of one; then it reads that one, once.
Templates without a schema cost nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tasker.domain.errors import ValueRefused
from tasker.domain.schemas import context_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.domain.version import Reference


class KnownSchema(NamedTuple):
    """A schema that was read: its digest, and what raises ValueRefused for a context that does not fit."""

    digest: str
    check: Callable[[object], None]


class StoredSchemas:
    """What one submit knows of schemas; `known` is shared by all submits of a client."""

    def __init__(self, known: dict[Reference, KnownSchema]) -> None:
        self._known = known
        self._sure: set[Reference] = set()

    def held_against(self, template: Reference, context: str) -> str | None:
        """Check a context, as JSON; the digest of the schema it fits, None where none is known.

        Raises ValueRefused, naming each path. Without a version in the reference, the schema known may by now
        be that of an older one: then the digest is None too, and PostgreSQL says which one counts.
        """
        known = self._known.get(template)
        if known is None:
            return None
        try:
            known.check(json.loads(context))
        except ValueRefused:
            if template.version is None and template not in self._sure:
                return None
            raise
        return known.digest

    def learn(self, template: Reference, stored: tuple[dict[str, Any], str] | None) -> None:
        """From now on contexts for `template` are held against this schema, with its digest; None: none."""
        self._sure.add(template)
        if stored is None:
            self._known.pop(template, None)
        else:
            schema, digest = stored
            self._known[template] = KnownSchema(digest, context_check(schema))
