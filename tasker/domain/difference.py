"""What changed from one definition of a template to another, in the words of those who write templates."""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any

from tasker.domain.version import bumped
from tasker.domain.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasker.domain.templates import StepDefinition, TemplateDefinition

MOST_LINES = 6
_FOR_PEOPLE = {"name", "namespace", "version", "steps", "description"}
_ABSENT = object()


def conflict_text(stored: TemplateDefinition, given: TemplateDefinition) -> str:
    """What a TemplateConflict says: a line for each step or field that differs, and the remedy."""
    lines = differences(stored, given)
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join(
        (
            f"template {stored.full_name}@{stored.version} is stored with another definition:",
            *(f"  {line}" for line in [*lines[:MOST_LINES], *more]),
            f"give it version {bumped(stored.version)}",
        )
    )


def differences(stored: TemplateDefinition, given: TemplateDefinition) -> list[str]:
    """Steps that were added and removed, and fields that changed, as `charge.queue: "a" -> "b"`.

    What the digest leaves out, descriptions and the order of parents, is left out here.
    """
    given = type(given).from_json(given.to_json())  # as it would be stored: rounded, exceptions as names
    old, new = _by_name(stored), _by_name(given)
    found = [
        *(f"step {name} was added" for name in new if name not in old),
        *(f"step {name} was removed" for name in old if name not in new),
        *_changes("", _content(stored), _content(given)),
        *chain.from_iterable(_changes(name, old[name], new[name]) for name in new if name in old),
    ]
    if not found and list(old) != list(new):
        found.append(f"the order of the steps: {', '.join(old)} -> {', '.join(new)}")
    return found


def _by_name(definition: TemplateDefinition) -> dict[str, dict[str, Any]]:
    return {step.name: _step_content(step) for step in definition.steps}


def _step_content(step: StepDefinition) -> dict[str, Any]:
    return {**_content(step), "depends_on": sorted(step.depends_on), "retry": _content(step.retry)}


def _content(defined: Any) -> dict[str, Any]:
    return {
        field.name: getattr(defined, field.name) for field in fields(defined) if field.name not in _FOR_PEOPLE
    }


def _changes(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _changes(inner, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif old != new and not (path.endswith(".description") and isinstance(old, str) and isinstance(new, str)):
        yield f"{path}: {_written(old)} -> {_written(new)}"


def _written(value: Any) -> str:
    return "nothing" if value is _ABSENT or value is None else shown(value)
