"""JSON Schema (2020-12) of a template's context: checked when declared, enforced at submit.

`format` is an annotation, as the specification has it by default. jsonschema loads at first use.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from tasker.domain.errors import ValueRefused
from tasker.domain.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonschema.exceptions import ValidationError

_REPORTED = 20
_LONG_MESSAGE = 200
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples"})
"""What stands under these is data: a `$ref` there refers to nothing."""


def schema_problems(schema: object) -> list[str]:
    """What keeps `schema` from describing a context; empty when nothing does."""
    if not isinstance(schema, dict):
        return ["must be a JSON object holding a JSON Schema"]
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    dialect = schema.get("$schema", Draft202012Validator.META_SCHEMA["$schema"])
    if dialect != Draft202012Validator.META_SCHEMA["$schema"]:
        return [f"$schema is {dialect!r}; only JSON Schema 2020-12 is supported"]
    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as exc:
        return [f"{_path('', exc.absolute_path)}{exc.message}"]
    found = [f'$ref "{reference}" leads nowhere in this schema' for reference in _dangling(schema)]
    if not found and _top_level_type(schema) not in ("object", None):
        found.append('describes no object; a context is always a JSON object ("type": "object")')
    return found


def context_check(schema: dict[str, Any] | None) -> Callable[[object], None]:
    """A function that raises ValueRefused, naming each path, for a context (plain JSON) unlike `schema`.

    Compiled once: keep it beside the template. Without a schema any JSON object passes.
    """
    if schema is None:
        return _check_object
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry, because jsonschema's own would fetch an unknown `$ref` over the network.
    validator = Draft202012Validator(schema, registry=Registry())

    def check(context: object) -> None:
        _check_object(context)
        try:
            problems = list(islice(validator.iter_errors(context), _REPORTED))
        except RecursionError:
            raise ValueRefused("context: checking it comes to no end; look at the schema's $ref") from None
        if problems:
            raise ValueRefused(
                "; ".join(
                    f"{_path('context', problem.absolute_path)}: {_said(problem)}" for problem in problems
                )
            )

    return check


def _said(problem: ValidationError) -> str:
    """The finding in the words of jsonschema, unless they quote a long value."""
    if len(problem.message) <= _LONG_MESSAGE:
        return problem.message
    return f"does not satisfy {problem.validator}: {shown(problem.validator_value)}"


def _check_object(context: object) -> None:
    if not isinstance(context, dict):
        raise ValueRefused(f"context: must be a JSON object, not {type(context).__name__}")


def _dangling(schema: dict[str, Any]) -> Iterator[str]:
    """References that lead out of the schema or nowhere in it."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in dict.fromkeys(_references(schema)):
        if not reference.startswith("#"):
            yield reference
            continue
        try:
            resolver.lookup(reference)
        except Unresolvable:
            yield reference


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in _DATA_KEYWORDS:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _top_level_type(schema: dict[str, Any]) -> object:
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/") and "type" not in schema:
        target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        return target.get("type") if isinstance(target, dict) else None
    return schema.get("type")


def _path(root: str, keys: Any) -> str:
    parts = [root, *(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)]
    text = "".join(parts)
    return text if root else text.removeprefix(".") + (": " if text else "")
