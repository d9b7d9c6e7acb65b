"""Validation of contexts and results to the types that handlers declare."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from tasker.domain.errors import PermanentError, TemplateError

Fit = Callable[[Any], Any]

_EXACT = frozenset({dict, list, str, int, float, bool, NoneType})
_SHOWN = 10


def fit_to(kind: Any, about: str, *, from_json: bool) -> Fit | None:
    """A function that validates a value to `kind`, or None when anything fits.

    The function raises PermanentError, which begins with `about` and shows no values. `from_json` says
    that values are plain JSON, so that strict models take dates and decimals as text.
    Raises TemplateError when pydantic knows no way to validate to `kind`.
    """
    if kind is Any or kind is object:
        return None
    exact = _exact(kind)
    adapter = _adapter(kind)

    def fit(value: Any) -> Any:
        if type(value) is exact:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as exc:
            if not from_json:
                raise PermanentError(_misfit(about, kind, exc)) from exc
        try:
            return adapter.validate_json(json.dumps(value))
        except ValidationError as exc:
            raise PermanentError(_misfit(about, kind, exc)) from exc

    return fit


def _exact(kind: Any) -> type | None:
    """The class whose direct instances need no validation."""
    if kind is None:
        return NoneType
    origin, parts = get_origin(kind), get_args(kind)
    if (origin is list and parts == (Any,)) or (origin is dict and parts == (str, Any)):
        return origin
    return kind if isinstance(kind, type) and kind in _EXACT else None


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        hash(kind)
    except TypeError:  # Annotated with something unhashable
        return _new_adapter(kind)
    return _kept_adapter(kind)


def _new_adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except Exception as exc:
        reason = str(exc).partition("\n")[0]
        raise TemplateError(f"pydantic cannot validate to the annotation {kind!r}: {reason}") from exc


_kept_adapter = lru_cache(maxsize=4096)(_new_adapter)


def _misfit(about: str, kind: Any, exc: ValidationError) -> str:
    """The findings without the values, which may be confidential."""
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    findings = [
        f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" if error["loc"] else error["msg"]
        for error in errors[:_SHOWN]
    ]
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    name = getattr(kind, "__name__", None) or str(kind)
    return f"{about} does not fit {name}: {'; '.join(findings)}{more}"
