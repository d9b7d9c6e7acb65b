"""Claim, call, finish, continue: what one message makes a worker do."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from tasker.db import functions
from tasker.domain.errors import WorkerStopped
from tasker.domain.outcomes import failed
from tasker.faults import point
from tasker.orchestration.advance import finish
from tasker.orchestration.patience import until_answered
from tasker.settings import redaction
from tasker.worker.batch import Batch
from tasker.worker.execute import Executor
from tasker.worker.interrupt import where
from tasker.worker.limits import Limits
from tasker.worker.report import report_failure
from tasker.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from tasker.domain.outcomes import Outcome
    from tasker.domain.replies import ClaimedStep
    from tasker.orchestration.engine import Engine
    from tasker.worker.identity import Identity
    from tasker.worker.leaving import Leaving
    from tasker.worker.limits import Running

REGISTER_PAUSE_SECONDS = 0.2
FLUSH_SECONDS = 1.0
ASK_SECONDS = 1.0
"""Between two looks at whether a running attempt still counts; quick handlers are never asked for."""
NOBODY = 0
"""The worker of a call that keeps nothing."""

_log = logging.getLogger(__name__)


class Runner:
    """Runs the steps of messages in this process, in as many threads as call it."""

    def __init__(self, engine: Engine, identity: Identity, leaving: Leaving, *, may_die: bool) -> None:
        """`may_die`: this process is a pool's child, and ends with a handler that does not."""
        self._engine = engine
        self._identity = identity
        self._leaving = leaving
        self._settings = engine.settings
        self._may_die = may_die
        self._limits = Limits(engine.settings, may_die=may_die)
        self._executor = Executor(engine, self._limits)
        self._watchdog = Watchdog(engine.database, self._look)

    def run(self, ids: Sequence[int], queue: str) -> None:
        """Run those steps of one message that can be won, and what continues them.

        Whatever ends it early (the worker is told to stop), what has finished is recorded and what has not
        begun is given back.
        """
        batch = Batch(queue)
        self._claim(batch, ids)
        with self._watchdog.watching(batch):
            try:
                while batch.unbegun:
                    while step := self._next(batch):
                        point("before", "handler")
                        outcome = self._executor.execute(step, batch.contexts[step.task_id])
                        point("after", "handler")
                        if outcome is not None:
                            batch.finished(outcome)
                    batch.add(self._record(batch.take_finished(), self._keep(batch)))
                    point("after", "keep")
            except BaseException:
                self._record(batch.take_finished(), None)
                self._release(batch.take_all())
                raise
            finally:
                self._limits.rest()

    def _next(self, batch: Batch) -> ClaimedStep | None:
        if self._leaving:
            self._release(batch.take_all())
        return batch.take()

    def _claim(self, batch: Batch, ids: Sequence[int]) -> None:
        while True:
            worker = None
            try:
                worker = until_answered(self._identity.worker, f"steps {ids} are not claimed")
                claim = partial(self._engine.run, functions.claim_steps, ids, worker, uuid4())
                reply = until_answered(claim, f"the claim of steps {ids} is repeated")
            except WorkerStopped:
                if self._leaving:
                    return
                # A new claim id too: what the old name may have won is about to be taken back.
                if worker is not None:
                    self._identity.renew(worker)
                time.sleep(REGISTER_PAUSE_SECONDS)
            else:
                batch.contexts = reply.contexts
                batch.add(reply.steps)
                return

    def _keep(self, batch: Batch) -> Mapping[str, object] | None:
        if self._leaving or (time.monotonic() - batch.began) * 1000 >= self._settings.continuation_ms:
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
        if keep is not None:
            worker = None
            try:
                worker = until_answered(self._identity.worker, f"{len(outcomes)} finished steps are held")
                return finish(self._engine, outcomes, worker, keep)
            except WorkerStopped:
                # taken for dead: what can still be recorded is, but nothing is kept under the old name
                if worker is not None:
                    self._identity.renew(worker)
        return finish(self._engine, outcomes, NOBODY, None)

    def _release(self, steps: Sequence[ClaimedStep]) -> None:
        by_claim: dict[UUID, list[int]] = {}
        for step in steps:
            by_claim.setdefault(step.claim, []).append(step.id)
        for claim, ids in by_claim.items():
            release = partial(self._engine.run, functions.release_steps, ids, claim)
            until_answered(release, f"the release of steps {ids} is repeated")

    def _look(self, batches: Sequence[Batch]) -> None:
        """The watchdog's part."""
        now = time.monotonic()
        for batch in batches:
            running = self._limits.of(batch.thread)
            if running is not None and now >= running.hard_at and self._limits.give_up(running):
                self._end(batch, running)
            self._hold_back_nothing(batch, now)
        self._ask(batches, now)

    def _hold_back_nothing(self, batch: Batch, now: float) -> None:
        """Outcomes that have waited long enough are recorded, and steps held for too long are given back."""
        self._record(batch.take_finished(older_than=now - self._settings.flush_after_ms / 1000), None)
        if self._leaving or now - batch.claimed_at >= self._settings.release_after_ms / 1000:
            self._release(batch.take_all())

    def _end(self, batch: Batch, running: Running) -> None:
        """A handler did not end when it was told: its attempt does, and this process if that stops it."""
        step = running.step
        _log.error(
            "step %s of task %s has run for %.1f s and does not end; %s",
            step.name,
            step.task_id,
            time.monotonic() - running.begun,
            "this process does" if self._may_die else "it goes on, and what it brings will be refused",
        )
        try:
            self._record([*batch.take_finished(), *self._given_up(running)], None)
            self._release(batch.take_all())
        finally:  # whatever could not be recorded is for the main process to find
            running.cancelled = True
            if self._may_die:
                self._engine.publisher.flush(FLUSH_SECONDS)
                if running.armed:  # it may have ended meanwhile, and the process is another step's
                    os._exit(os.EX_SOFTWARE)

    def _given_up(self, running: Running) -> Iterator[Outcome]:
        """The failure of a handler that does not end, unless somebody has ended its attempt already."""
        if not running.cancelled:
            error = running.error().with_traceback(where(running.thread, below=__name__))
            outcome = failed(
                running.step,
                error,
                running.begun,
                time.monotonic(),
                self._settings.error_max_bytes,
                redaction=redaction(self._settings),
            )
            report_failure(outcome)
            yield outcome

    def _ask(self, batches: Sequence[Batch], now: float) -> None:
        """Whether somebody has ended the attempts of handlers that run for long."""
        long = [
            running
            for running in map(self._limits.of, [batch.thread for batch in batches])
            if running is not None and not running.cancelled and now - running.asked_at >= ASK_SECONDS
        ]
        if not long:
            return
        for running in long:
            running.asked_at = now
        attempts = {(running.step.id, running.step.attempt): running for running in long}
        for attempt in self._engine.database.call(functions.ended_attempts, list(attempts)):
            self._limits.cancel(attempts[attempt])
