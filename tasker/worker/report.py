"""What a worker's log says of attempts that failed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasker.domain.outcomes import Outcome

MESSAGE_SHOWN = 300

_log = logging.getLogger(__name__)


def report_failure(outcome: Outcome) -> None:
    """Log a failed attempt: a warning when it is retried, an error with the traceback when it was the last.

    What is logged is what will be stored: secrets are hidden in it. The log is the application's own under
    `celery worker`, so the traceback is part of the message.
    """
    step, error = outcome.step, outcome.error
    if error is None:
        return
    attempt = step.failures + 1
    message = error["message"].strip().partition("\n")[0]
    shown = message if len(message) <= MESSAGE_SHOWN else f"{message[:MESSAGE_SHOWN]}…"
    said = f"{error['type']}: {shown}" if shown else error["type"]
    if outcome.permanent or attempt >= step.max_attempts:
        _log.error(
            "step %s of task %s failed for good, attempt %d of %d: %s\n%s",
            step.name,
            step.task_id,
            attempt,
            step.max_attempts,
            said,
            error["traceback"].rstrip(),
        )
        return
    # the policy's delay is drawn by PostgreSQL; only what the handler asked for is known here
    after = "" if outcome.retry_after is None else f" in {outcome.retry_after:g} s"
    _log.warning(
        "step %s of task %s failed and is retried%s, attempt %d of %d: %s",
        step.name,
        step.task_id,
        after,
        attempt,
        step.max_attempts,
        said,
    )
