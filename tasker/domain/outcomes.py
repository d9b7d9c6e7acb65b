"""How an attempt ended: a result, or an exception made into plain data."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasker.domain.errors import PermanentError, RetryableError, TemplateError, ValueRefused
from tasker.domain.retry import is_named

if TYPE_CHECKING:
    from tasker.domain.replies import ClaimedStep


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
        return common + json.dumps(failure)[1:]


def failed(step: ClaimedStep, error: BaseException, begun: float, ended: float, limit_bytes: int) -> Outcome:
    """The outcome of an attempt that raised `error`."""
    permanent = isinstance(error, (PermanentError, ValueRefused, TemplateError)) or is_named(
        error, step.never_for
    )
    retry_after = error.retry_after if isinstance(error, RetryableError) else None
    return Outcome(
        step, begun, ended, error=describe(error, limit_bytes), permanent=permanent, retry_after=retry_after
    )


def describe(error: BaseException, limit_bytes: int) -> dict[str, Any]:
    """The exception as {"type", "message", "traceback"}, within `limit_bytes`, whatever it contains."""
    kind = type(error)
    # ours by the name that users import them under
    module = "tasker" if kind.__module__ == "tasker.domain.errors" else kind.__module__
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - an exception may be broken in any way
        message = f"<{name} whose str() raised {type(broken).__name__}>"
    # a character may take six bytes of JSON; the end of a traceback says more than its beginning
    room = limit_bytes // 6 // 3
    lines = "".join(traceback.format_exception(kind, None, error.__traceback__)[:-1])
    return {
        "type": _storable(name)[:200],
        "message": _shortened(_storable(message), room),
        "traceback": _storable(lines)[-2 * room :],
    }


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[:room]}… ({len(text)} characters)"


def _storable(text: str) -> str:
    """The text without what PostgreSQL's jsonb refuses: NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
