"""Outcomes into the database, whatever it takes: the step of a chain from one handler to the next."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from tasker.db import functions
from tasker.domain.error_data import describe
from tasker.domain.errors import Rejected
from tasker.orchestration.patience import until_answered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasker.domain.outcomes import Outcome
    from tasker.domain.replies import ClaimedStep, Finished
    from tasker.orchestration.engine import Engine

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

    def record() -> Finished:
        now = time.monotonic()
        text = f"[{','.join(outcome.to_json(now) for outcome in outcomes)}]"
        return engine.run(functions.finish_steps, text, worker, claim, keep)

    try:
        reply = until_answered(record, f"{len(outcomes)} finished steps are held")
    except Rejected as error:
        return _finish_apart(engine, outcomes, worker, keep, error)
    if reply.refused:
        _log.warning("outcomes of steps %s came too late: their attempts had been ended", reply.refused)
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
    refusal = describe(error, engine.settings.error_max_bytes)
    # not even this can be stored, so nothing the handler did is at fault
    if outcome.error is not None and outcome.error["type"] == refusal["type"]:
        raise error
    _log.error("step %s of task %s: %s", outcome.step.name, outcome.step.task_id, error)
    return finish(engine, [replace(outcome, result=None, error=refusal, permanent=True)], worker, keep)
