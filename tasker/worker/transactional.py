"""Transactional steps: what the handler writes and the step's completion commit together, or not at all."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tasker.db import functions
from tasker.db.transaction import CommitUnknown, Transactions
from tasker.domain.errors import AttemptEnded
from tasker.domain.outcomes import Outcome
from tasker.events import signals
from tasker.orchestration.patience import until_answered

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.domain.replies import ClaimedStep
    from tasker.orchestration.engine import Engine

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
                outcome = Outcome(step, begun, now, result=result).to_json(now)
                reply = transaction.finish(outcome, moves=signals.wanted())
        except AttemptEnded as ended:
            _log.warning("step %s of task %s: %s; its writes are undone", step.name, step.task_id, ended)
        except CommitUnknown as unknown:
            _log.warning(
                "step %s of task %s: %s; it is given back unless it committed",
                step.name,
                step.task_id,
                unknown,
            )
            release = partial(self._engine.run, functions.release_steps, [step.id], step.claim)
            until_answered(release, f"whether step {step.id} committed is still open")
        else:
            self._engine.told(reply, now)
