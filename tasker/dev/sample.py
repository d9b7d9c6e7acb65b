"""A context to try a template with, from its JSON Schema."""

from __future__ import annotations

import json
from typing import Any

TEXT = {
    "date": "2030-01-31",
    "date-time": "2030-01-31T12:00:00Z",
    "uuid": "00000000-0000-0000-0000-000000000001",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
}


def sample(schema: dict[str, Any] | None) -> str:
    """The JSON text of a small object that most likely satisfies `schema`; a start for people to edit."""
    return json.dumps(_Sampling(schema or {}).object_of(schema or {}))


class _Sampling:
    """Values for the parts of one schema; `$ref` leads into it."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def value_of(self, part: dict[str, Any]) -> Any:
        part = self._resolved(part)
        for key, first in (("default", False), ("const", False), ("examples", True), ("enum", True)):
            if key in part:
                return part[key][0] if first else part[key]
        match part.get("type"):
            case "object":
                return self.object_of(part)
            case "array":
                return [self.value_of(part.get("items", {})) for _ in range(part.get("minItems", 0))]
            case "integer" | "number":
                return max(1, part.get("minimum", 1), part.get("exclusiveMinimum", 0) + 1)
            case "string":
                return TEXT.get(part.get("format", ""), "x" * max(1, part.get("minLength", 1)))
        return True if part.get("type") == "boolean" else None

    def object_of(self, part: dict[str, Any]) -> dict[str, Any]:
        properties = part.get("properties", {})
        found = {name: self.value_of(properties.get(name, {})) for name in part.get("required", ())}
        if not found and part.get("minProperties"):
            found = {"x": self.value_of(part.get("additionalProperties") or {})}
        return found

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        """`part`, or the first of what it may be."""
        for key in ("anyOf", "oneOf", "allOf"):
            if part.get(key):
                return self._resolved(part[key][0])
        if "$ref" not in part:
            return part
        found: Any = self._root
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found.get(name, {})
        return self._resolved(found)
