"""Every exception of Tasker, grouped by who has to act."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_RETRY_AFTER_SECONDS = 366 * 24 * 3600


class TaskerError(Exception):
    """Root of everything Tasker raises on purpose."""


# --- a template's author acts -------------------------------------------------------------------


class TemplateError(TaskerError):
    """A template or its registration is wrong. `problems` holds every finding, one line each."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class TemplateConflict(TaskerError):
    """The same template version is already stored with another content; publish a new version.

    The message says what differs. `stored` is the definition that is stored, None where it is not known.
    """

    def __init__(self, message: str = "", stored: dict[str, Any] | None = None) -> None:
        self.stored = stored
        super().__init__(message)


# --- whoever runs the system acts ---------------------------------------------------------------


class SettingsError(TaskerError):
    """A setting is missing, contradictory or malformed."""


class SchemaBehind(TaskerError):
    """The database schema is older than this code; run `tasker db migrate`."""


class Unreachable(TaskerError):
    """PostgreSQL or the broker did not answer; what was asked may have been done or not."""


# --- the caller acts ----------------------------------------------------------------------------


class ValueRefused(TaskerError, ValueError):
    """A value cannot be taken: wrong in kind, too long, or not JSON; the message names the path."""


class NotFound(TaskerError, LookupError):
    """The named task, step, template or queue does not exist."""


class TaskNotFound(NotFound):
    """No task has this id."""


class StepNotFound(NotFound):
    """The task has no step of this name."""


class TemplateNotFound(NotFound):
    """No active template has this name and version."""


class QueueNotFound(NotFound):
    """No template and no worker has named this queue."""


class StateConflict(TaskerError):
    """The task or step is in a state that does not allow this; the message names the state found."""


class IdempotencyConflict(StateConflict):
    """The idempotency key already belongs to a task submitted with another context."""


class WaitTimeout(TaskerError, TimeoutError):
    """The task did not settle in the time given; it goes on running."""


class StepNotComplete(TaskerError):
    """The step has no result yet."""


class StepFailed(TaskerError):
    """The step ended in `error`; `error` holds what its last attempt recorded."""

    def __init__(self, message: str, error: dict[str, object] | None = None) -> None:
        self.error = error or {}
        super().__init__(message)


# --- a handler raises ---------------------------------------------------------------------------


class RetryableError(TaskerError):
    """Raise from a handler to fail this attempt and try again, while attempts are left.

    `retry_after` (seconds, or a timedelta) replaces the policy's delay; None takes the policy's. Raises
    ValueError when it is no length of time.
    """

    def __init__(self, message: str = "", retry_after: float | timedelta | None = None) -> None:
        if isinstance(retry_after, timedelta):
            retry_after = retry_after.total_seconds()
        if retry_after is not None and not 0 <= float(retry_after) <= LONGEST_RETRY_AFTER_SECONDS:
            raise ValueError(f"retry_after takes seconds from 0 to a year, not {retry_after!r}")
        self.retry_after = None if retry_after is None else float(retry_after)
        super().__init__(message)


class PermanentError(TaskerError):
    """Raise from a handler to fail the step at once, whatever attempts are left."""


# --- a handler is told --------------------------------------------------------------------------


class StepTimeout(TaskerError):
    """Raised inside a handler whose step has run for its `timeout_seconds`.

    A handler may catch it to clean up: when it then returns within `timeout_grace_seconds`, the step is
    complete. Let through, it fails the attempt, which is retried by the step's policy. It is raised once.
    """


class StepCancelled(TaskerError):
    """Raised inside a handler whose attempt was ended by somebody else `cancel_grace_seconds` ago.

    The task was cancelled, say, or the step resolved. Whatever the handler still returns is refused.
    """


# --- inside the engine --------------------------------------------------------------------------


class WorkerStopped(TaskerError):
    """This worker's row was stopped (it was thought dead); the process registers anew."""


class WrongIsolation(TaskerError):
    """A state-changing function was called outside READ COMMITTED, where wake-ups can be lost."""


class ContextUnchecked(TaskerError):
    """A context came by a template's name, not held against the schema of the version that counts, `found`.

    `namespace`, `name` and `version` are what was asked for.
    """

    def __init__(self, message: str, *, namespace: str, name: str, version: str | None, found: str) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.found = found
        super().__init__(message)


class AttemptEnded(TaskerError):
    """Somebody else ended this attempt, an operator or a recovery; its transaction is undone."""


class TransactionEnded(PermanentError):
    """The handler of a transactional step committed or rolled back; only its completion may."""


class Rejected(TaskerError):
    """PostgreSQL refused the values of a call for good; repeating it unchanged cannot help."""
