"""Claim, call, finish, continue: what one message makes a worker do."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from tasker.db import functions
from tasker.domain.errors import Unreachable, WorkerStopped
from tasker.orchestration.advance import finish
from tasker.worker.batch import Batch
from tasker.worker.execute import Executor
from tasker.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from tasker.domain.outcomes import Outcome
    from tasker.domain.replies import ClaimedStep
    from tasker.orchestration.engine import Engine
    from tasker.worker.identity import Identity

CLAIM_PATIENCE_SECONDS = 30.0
CLAIM_PAUSE_SECONDS = 0.2

_log = logging.getLogger(__name__)


class Runner:
    """Runs the steps of messages in this process, in as many threads as call it."""

    def __init__(self, engine: Engine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity
        self._settings = engine.settings
        self._executor = Executor(engine.database, engine.settings)
        self._watchdog = Watchdog(engine.database, self._look)

    def run(self, ids: Sequence[int], queue: str) -> None:
        """Run those steps of one message that can be won, and what continues them."""
        batch = Batch(queue)
        self._claim(batch, ids)
        with self._watchdog.watching(batch):
            while batch.unbegun:
                while step := batch.take():
                    batch.finished(self._executor.execute(step, batch.contexts[step.task_id]))
                batch.add(self._record(batch.take_finished(), self._keep(batch)))

    def _claim(self, batch: Batch, ids: Sequence[int]) -> None:
        claim = uuid4()
        deadline = time.monotonic() + CLAIM_PATIENCE_SECONDS
        while True:
            try:
                reply = self._engine.run(functions.claim_steps, ids, self._identity.worker(), claim)
            except (WorkerStopped, Unreachable) as error:
                if time.monotonic() > deadline:
                    _log.warning("%s; steps %s are left to be published again", error, ids)
                    return
                if isinstance(error, WorkerStopped):
                    # what the old name may have won is about to be taken back, so it must not be told again
                    self._identity.renew()
                    claim = uuid4()
                time.sleep(CLAIM_PAUSE_SECONDS)
            else:
                batch.contexts = reply.contexts
                batch.add(reply.steps)
                return

    def _keep(self, batch: Batch) -> Mapping[str, object] | None:
        if (time.monotonic() - batch.began) * 1000 >= self._settings.continuation_ms:
            return None
        return {
            "queue": batch.queue,
            "budget_ms": self._settings.batch_budget_ms,
            "max": self._settings.batch_max_steps,
        }

    def _record(
        self, outcomes: Sequence[Outcome], keep: Mapping[str, object] | None
    ) -> Sequence[ClaimedStep]:
        if not outcomes:
            return ()
        self._watchdog.measured(outcomes)
        try:
            return finish(self._engine, outcomes, self._identity.worker(), keep)
        except WorkerStopped:
            # taken for dead: what can still be recorded is, but nothing more is kept under the old name
            self._identity.renew()
            return finish(self._engine, outcomes, 0, None)

    def _look(self, batch: Batch) -> None:
        """The watchdog's part: outcomes that have waited long enough, and steps held for too long."""
        now = time.monotonic()
        self._record(batch.take_finished(older_than=now - self._settings.flush_after_ms / 1000), None)
        if now - batch.claimed_at >= self._settings.release_after_ms / 1000:
            by_claim: dict[UUID, list[int]] = {}
            for step in batch.take_all():
                by_claim.setdefault(step.claim, []).append(step.id)
            for claim, ids in by_claim.items():
                self._engine.run(functions.release_steps, ids, claim)
