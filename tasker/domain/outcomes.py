"""How an attempt ended: a result, or an exception made into plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasker.domain.error_data import describe
from tasker.domain.errors import (
    LONGEST_RETRY_AFTER_SECONDS,
    PermanentError,
    Rejected,
    RetryableError,
    TemplateError,
    ValueRefused,
)
from tasker.domain.redaction import BY_RULES, Redaction
from tasker.domain.retry import is_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker.domain.replies import ClaimedStep

_PERMANENT = (PermanentError, ValueRefused, TemplateError, Rejected)
"""Errors that the next attempt would raise too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker reports of one attempt.

    `begun` and `ended` are readings of its monotonic clock, in seconds; `result` is JSON text.
    """

    step: ClaimedStep
    begun: float
    ended: float
    result: str | None = None
    error: dict[str, Any] | None = None
    permanent: bool = False
    retry_after: float | None = None

    def to_json(self, now: float) -> str:
        """The outcome as `finish_steps` takes it; `now` is the monotonic clock at the time of the call."""
        step = self.step
        common = (
            f'{{"step_id":{step.id},"attempt":{step.attempt},"claim_id":"{step.claim}",'
            f'"started_ms_ago":{(now - self.begun) * 1000:.3f},'
        )
        if self.error is None:
            return f'{common}"kind":"complete","result":{self.result}}}'
        failure = {"kind": "failure", "error": self.error, "permanent": self.permanent}
        if self.retry_after is not None:
            failure["retry_after_ms"] = self.retry_after * 1000
        return common + json.dumps(failure, ensure_ascii=False)[1:]


def failed(
    step: ClaimedStep,
    error: BaseException,
    begun: float,
    ended: float,
    limit_bytes: int,
    *,
    redaction: Redaction = BY_RULES,
) -> Outcome:
    """The outcome of an attempt that raised `error`; whatever the error is, this returns."""
    return Outcome(
        step,
        begun,
        ended,
        error=describe(error, limit_bytes, redaction),
        permanent=_is_permanent(error, step.never_for),
        retry_after=_retry_after(error),
    )


def _is_permanent(error: BaseException, never_for: Sequence[str]) -> bool:
    if issubclass(type(error), _PERMANENT):
        return True
    try:
        return is_named(error, never_for)
    except Exception:  # noqa: BLE001 - a metaclass may do anything when its class is asked for its name
        return False


def _retry_after(error: BaseException) -> float | None:
    """What a RetryableError asks for, unless somebody has set it to what is no length of time."""
    asked: Any = vars(error).get("retry_after") if issubclass(type(error), RetryableError) else None
    if type(asked) in (int, float) and 0 <= asked <= LONGEST_RETRY_AFTER_SECONDS:
        return float(asked)
    return None
