"""Outcomes into the database, whatever it takes: the step of a chain from one handler to the next."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from tasker.db import functions
from tasker.domain.errors import Rejected, Unreachable
from tasker.domain.outcomes import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasker.domain.outcomes import Outcome
    from tasker.domain.replies import ClaimedStep
    from tasker.orchestration.engine import Engine

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


def finish(
    engine: Engine, outcomes: Sequence[Outcome], worker: int, keep: Mapping[str, object] | None
) -> list[ClaimedStep]:
    """Record outcomes, publish what became ready, and return the steps kept for this worker.

    While the database is away the outcomes are held and the same call is repeated under the same claim, so
    that no handler runs again for it. Values that PostgreSQL refuses fail their own step and no other.
    Raises WorkerStopped when `keep` is given and this worker was taken for dead; nothing is recorded then.
    """
    claim = uuid4()
    pause = FIRST_PAUSE_SECONDS
    while True:
        now = time.monotonic()
        text = f"[{','.join(outcome.to_json(now) for outcome in outcomes)}]"
        try:
            reply = engine.run(functions.finish_steps, text, worker, claim, keep)
        except Unreachable as error:
            _log.warning("%s; %d finished steps are held until it is back", error, len(outcomes))
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        except Rejected as error:
            return _finish_apart(engine, outcomes, worker, keep, error)
        else:
            if reply.refused:
                _log.warning(
                    "outcomes of steps %s came too late: their attempts had been ended", reply.refused
                )
            return reply.kept


def _finish_apart(
    engine: Engine,
    outcomes: Sequence[Outcome],
    worker: int,
    keep: Mapping[str, object] | None,
    error: Rejected,
) -> list[ClaimedStep]:
    """One outcome of the batch is poison: halve until it stands alone, then fail its step for good."""
    if len(outcomes) > 1:
        half = len(outcomes) // 2
        kept = finish(engine, outcomes[:half], worker, None)
        return kept + finish(engine, outcomes[half:], worker, keep)
    (outcome,) = outcomes
    if outcome.error is not None and outcome.permanent:
        raise error
    _log.error("step %s of task %s: %s", outcome.step.name, outcome.step.task_id, error)
    refused = describe(error, engine.settings.error_max_bytes)
    return finish(engine, [replace(outcome, result=None, error=refused, permanent=True)], worker, keep)
