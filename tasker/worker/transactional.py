"""Transactional steps: what the handler writes and the step's completion commit together, or not at all."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasker.db import functions
from tasker.db.transaction import CommitUnknown, Transactions
from tasker.domain.errors import AttemptEnded
from tasker.domain.outcomes import Outcome
from tasker.domain.states import StepState
from tasker.events import signals
from tasker.orchestration.advance import finish
from tasker.orchestration.patience import until_answered

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.domain.replies import ClaimedStep
    from tasker.orchestration.engine import Engine

NOBODY = 0
"""The worker of a call that keeps nothing."""

_log = logging.getLogger(__name__)


class InTransaction:
    """Runs the transactional steps of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._transactions = Transactions(engine.database.url, engine.settings.statement_timeout_seconds)

    def run(self, step: ClaimedStep, kind: type, handle: Callable[[Any], str], begun: float) -> None:
        """Call `handle` with a connection of this kind, record its result (JSON) in the transaction, commit.

        A database that is away is waited for while the handler has not been called. Afterwards nothing is
        left to record. Raises what the handler or the commit raises: both have left nothing behind, and the
        attempt is the caller's to record.
        """
        begin = partial(self._transactions.begin, kind)
        transaction = until_answered(begin, f"the handler of step {step.id} is not called")
        try:
            with transaction:
                result = handle(transaction.connection)
                now = time.monotonic()
                outcome = Outcome(step, begun, now, result=result)
                reply = transaction.finish(outcome.to_json(now), moves=signals.wanted())
        except AttemptEnded as ended:
            _log.warning("step %s of task %s: %s; its writes are undone", step.name, step.task_id, ended)
        except CommitUnknown as unknown:
            _log.warning(
                "step %s of task %s: %s; it is given back unless it committed",
                step.name,
                step.task_id,
                unknown,
            )
            self._find_out(outcome)
        else:
            self._engine.told(reply, now)

    def _find_out(self, outcome: Outcome) -> None:
        """Give the step back, which succeeds unless it was committed; then publish what follows it."""
        step = outcome.step
        question = f"whether step {step.id} committed is still open"
        until_answered(partial(self._engine.run, functions.release_steps, [step.id], step.claim), question)
        look = partial(self._engine.database.call, functions.step_results, UUID(step.task_id), [step.name])
        if until_answered(look, question)[step.name]["state"] == StepState.COMPLETE:
            finish(self._engine, [outcome], NOBODY, None)
