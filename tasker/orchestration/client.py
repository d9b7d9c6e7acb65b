"""What applications hold: `Tasker` submits, `Task` is the handle of what was submitted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload
from uuid import UUID

from tasker import broker
from tasker.db import functions
from tasker.db.engine import Database
from tasker.domain.errors import (
    ContextUnchecked,
    PermanentError,
    Rejected,
    StepFailed,
    StepNotComplete,
    StepNotFound,
    TaskerError,
    TaskNotFound,
    TemplateConflict,
    TemplateNotFound,
    ValueRefused,
    WaitTimeout,
)
from tasker.domain.fit import fit_to
from tasker.domain.loading import refuse_while_loading
from tasker.domain.states import SATISFYING, TASK_SETTLED, StepState, TaskState
from tasker.domain.version import Reference
from tasker.orchestration import operate
from tasker.orchestration.engine import Engine
from tasker.orchestration.stored_schemas import KnownSchema, StoredSchemas
from tasker.orchestration.submit import (
    TaskRequest,
    after_root_commit,
    joined_connection,
    own_session,
    referred_to,
    refusal_undone,
    request_json,
)
from tasker.orchestration.templates import explained, store_templates
from tasker.orchestration.waiting import Poller, Together
from tasker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from tasker.domain.records import StepRecord
    from tasker.domain.replies import Submitted
    from tasker.orchestration.submit import Template
    from tasker.settings import Settings

T = TypeVar("T")

CONNECTIONS = 4
SUBMIT_TASKS = 1_000
"""Requests of one round trip at most; a larger `submit_many` takes several, in order."""
FRESH_SECONDS = 0.005
"""How old a state may be that `wait` takes for granted before it begins to ask."""

_log = logging.getLogger(__name__)

__all__ = ["Task", "TaskRequest", "Tasker"]


class Task:
    """A task that was submitted.

    `created` is False when its idempotency key had named it before; `state` is as of the last call that
    read it.
    """

    def __init__(
        self,
        tasker: Tasker,
        task_id: UUID,
        state: str,
        *,
        created: bool = False,
        together: Together | None = None,
    ) -> None:
        self.id = task_id
        self.state = state
        self.created = created
        self._tasker = tasker
        self._read_at = time.monotonic()
        self._together = together or Together([task_id])

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.state}>"

    def refresh(self) -> Task:
        """Read `state` again; returns this task. Raises TaskNotFound (a rolled-back submit, for instance)."""
        self._read()
        return self

    def _read(self, *others: UUID) -> dict[UUID, str]:
        states = self._tasker.database.call(functions.task_states, [self.id, *others])
        if self.id not in states:
            raise TaskNotFound(f"no task {self.id}")
        self.state = states[self.id]
        self._read_at = time.monotonic()
        return states

    def wait(self, timeout: float | None = None) -> Task:
        """Wait until the task is settled: complete, error, cancelled or resolved_manually; returns this task.

        `timeout` is in seconds, None waits for ever. Raises WaitTimeout, TaskNotFound, Unreachable. A task
        whose submit joined a transaction of yours is not found before you commit.
        """
        now = time.monotonic()
        if self._together.was_complete(self.id, now):
            self.state = TaskState.COMPLETE
        # right after a submit the answer is known, and reading it would only hold up the first step
        elif now - self._read_at >= FRESH_SECONDS:
            self._look()
        if self.state in TASK_SETTLED:
            return self
        state = self._tasker.poller.wait(self.id, timeout)
        if state is None:
            self.refresh()  # a task that is not there, or not yet, is not late
            raise WaitTimeout(
                f"task {self.id} is not settled after {timeout} s and goes on; `tasker task why {self.id}` "
                "says what it waits for"
            )
        self.state = state
        return self

    def _look(self) -> None:
        """Read `state`, and which of the tasks that were submitted after this one, together, are complete."""
        beside = self._together.after(self.id)
        states = self._read(*beside)
        self._together.note({task: states.get(task) for task in beside}, self._read_at)

    @overload
    def result(self, step: str) -> Any: ...
    @overload
    def result(self, step: str, kind: type[T]) -> T: ...
    def result(self, step: str, kind: Any = None) -> Any:
        """What a step returned, as plain JSON, or as `kind` (any type pydantic can validate to).

        None for a step that was skipped or resolved without a result. Raises StepNotFound, StepNotComplete,
        StepFailed with the last error, ValueRefused when the result does not fit `kind`.
        """
        found = self._tasker.database.call(functions.step_results, self.id, [step])
        if step not in found:
            self.refresh()
            raise StepNotFound(f"task {self.id} has no step {step!r}; see `tasker task show {self.id}`")
        state = found[step]["state"]
        if state == StepState.ERROR:
            error = found[step]["error"] or {"type": "unknown", "message": "no error was recorded"}
            raise StepFailed(
                f"step {step} failed: {error['type']}: {error['message']}; "
                f"`tasker step show {self.id}/{step}` has the attempts",
                error,
            )
        if state not in SATISFYING:
            raise StepNotComplete(f"step {step} is {state}: {self._no_result()}")
        value = found[step]["result"]
        fit = None if kind is None or value is None else fit_to(kind, f"the result of {step}", from_json=True)
        try:
            return value if fit is None else fit(value)
        except PermanentError as wrong:
            raise ValueRefused(str(wrong)) from None

    def _no_result(self) -> str:
        if self.refresh().state in TASK_SETTLED:
            return (
                f"its task has settled as {self.state}, so it has no result; see `tasker task why {self.id}`"
            )
        return "wait for the task first"

    def steps(self) -> list[StepRecord]:
        """All steps, in the template's order."""
        from tasker.db import queries

        return self._tasker.database.call(queries.list_steps, self.id)

    def why(self) -> list[str]:
        """What each unfinished step waits for, in words; empty when nothing is unfinished."""
        from tasker.orchestration import explain

        return [str(reason) for reason in self._tasker.database.call(explain.why, self.id)]

    def cancel(self, reason: str | None = None) -> Task:
        """End the task and all its open steps; what a handler that still runs reports later is refused.

        Again changes nothing. Raises StateConflict when the task has settled otherwise.
        """
        operate.cancel_task(self._tasker.engine, self.id, actor=None, reason=reason)
        return self.refresh()

    def pause(self, reason: str | None = None) -> Task:
        """Hold the task: handlers that run end, and nothing more of it starts until it is resumed.

        Again changes nothing. Raises StateConflict unless the task is in progress.
        """
        operate.pause_task(self._tasker.engine, self.id, actor=None, reason=reason)
        return self.refresh()

    def resume(self, reason: str | None = None) -> Task:
        """Let a paused task go on, within half a second; if all of it failed meanwhile, it is in error now.

        Again changes nothing. Raises StateConflict for a task that cannot have been resumed.
        """
        operate.resume_task(self._tasker.engine, self.id, actor=None, reason=reason)
        return self.refresh()

    def publish(self) -> None:
        """Start at once what a submit inside your transaction created, after you have committed.

        The coordinator does so within half a second by itself; before the commit this does nothing.
        """
        self._tasker.engine.run(functions.dispatch_tasks, [self.id])


class _OnDatabase(NamedTuple):
    engine: Engine
    poller: Poller


class Tasker:
    """An application's way in: submits tasks and finds them again. Threads and forks may share it.

    `settings` are read from the environment (TASKER_DATABASE_URL, TASKER_BROKER_URL, …) and the settings file
    when left out. With `celery`, messages go through that app's broker, and its workers run steps; without,
    through an app of Tasker's own. Opens no connection. Raises SettingsError when no broker is named, or two
    are, or when the database's URL is none.
    """

    def __init__(self, settings: Settings | None = None, *, celery: broker.Celery | None = None) -> None:
        self.settings = settings or load_settings()
        self.celery = broker.connected(celery, self.settings) if celery else broker.celery_app(self.settings)
        broker.attach(self.celery, self.settings)
        self._publisher = broker.Publisher(self.celery, self.settings)
        self._schemas: dict[Reference, KnownSchema] = {}
        # made while no other thread can see this object, so that there is one pool and one poller
        self._on_database = self._connected() if self.settings.database_url else None

    @property
    def database(self) -> Database:
        """The connections of this process, for tools. Raises SettingsError when no database is named."""
        return self.engine.database

    @property
    def engine(self) -> Engine:
        """What moves things, for tools: actions beside submit. Raises SettingsError as `database`."""
        return self._required().engine

    @property
    def poller(self) -> Poller:
        """What `Task.wait` waits with, for tools. Raises SettingsError as `database`."""
        return self._required().poller

    def submit(
        self,
        template: str | Template,
        context: Any = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        run_after: datetime | timedelta | None = None,
        deadline_seconds: float | None = None,
        correlation_id: UUID | str | None = None,
        parent_correlation_id: UUID | str | None = None,
        initiator: str | None = None,
        source_system: str | None = None,
        reason: str | None = None,
        connection: Any = None,
    ) -> Task:
        """Create a task and start it; `TaskRequest` says what the arguments mean.

        With `connection` (a SQLAlchemy Session, scoped_session or Connection of postgresql+psycopg, or a
        psycopg 3 connection) the task is part of your transaction: it starts after your commit, and never
        exists if you roll back.

        Raises TemplateNotFound, TemplateConflict, ValueRefused, IdempotencyConflict, Unreachable. After
        Unreachable the task may exist or not: submit again with an idempotency key to find out.
        """
        request = TaskRequest(
            template=template,
            context=context,
            version=version,
            idempotency_key=idempotency_key,
            priority=priority,
            tags=tags,
            run_after=run_after,
            deadline_seconds=deadline_seconds,
            correlation_id=correlation_id,
            parent_correlation_id=parent_correlation_id,
            initiator=initiator,
            source_system=source_system,
            reason=reason,
        )
        return self._submit([request], connection)[0]

    def submit_many(
        self, requests: Iterable[TaskRequest | tuple[str | Template, Any]], *, connection: Any = None
    ) -> list[Task]:
        """Create many tasks, 1 000 in one round trip; their handles in order.

        Each 1 000 are created together or, if one is refused, not at all; with `connection` all of them are.
        """
        tasks: list[Task] = []
        batch: list[TaskRequest] = []
        for request in requests:
            batch.append(request if isinstance(request, TaskRequest) else TaskRequest(*request))
            if len(batch) == SUBMIT_TASKS:
                tasks += self._submit(batch, connection)
                batch = []
        return tasks + (self._submit(batch, connection) if batch else [])

    def task(self, task_id: UUID | str) -> Task:
        """The handle of a task by its id. Raises TaskNotFound."""
        try:
            return Task(self, UUID(str(task_id)), "unknown").refresh()
        except ValueError:
            raise TaskNotFound(f"no task {task_id}: a task id is a UUID") from None

    def close(self) -> None:
        """Send what is still to be published and close this process's connections."""
        self._publisher.flush(broker.EXIT_SECONDS)
        if self._on_database is not None:
            self.database.close()

    def _connected(self) -> _OnDatabase:
        database = Database(
            self.settings.require_database_url(),
            connections=CONNECTIONS,
            statement_timeout_seconds=self.settings.statement_timeout_seconds,
        )
        return _OnDatabase(Engine(database, self._publisher, self.settings), Poller(database))

    def _required(self) -> _OnDatabase:
        if self._on_database is None:
            self.settings.require_database_url()
            raise AssertionError  # without a database that has raised
        return self._on_database

    def _submit(self, requests: Sequence[TaskRequest], connection: Any) -> list[Task]:
        refuse_while_loading("a task is submitted")
        connection = own_session(connection)
        try:
            reply = self._checked(requests, connection)
        except Rejected as error:
            raise ValueRefused(str(error)) from None
        except TemplateConflict as conflict:
            raise explained(conflict, (each.definition for each in _objects(requests))) from None
        except TemplateNotFound:
            objects = _objects(requests)
            if not objects:
                self._raise_nearest(requests)
                raise
            # outside a caller's transaction: definitions are not part of what that may roll back
            store_templates(self.database, objects, self.celery.conf.task_default_queue)
            reply = self._checked(requests, connection)
        ids = [UUID(task.id) for task in reply.tasks]
        together = Together(ids)
        return [
            Task(self, own, task.state, created=task.created, together=together)
            for own, task in zip(ids, reply.tasks, strict=True)
        ]

    def _raise_nearest(self, requests: Sequence[TaskRequest]) -> None:
        """Raise TemplateNotFound for the first template that is not there, with the one nearest in name."""
        from tasker.db import queries

        for reference in dict.fromkeys(map(referred_to, requests)):
            self.database.call(queries.get_template, reference)

    def _checked(self, requests: Sequence[TaskRequest], connection: Any) -> Submitted:
        """Send requests, each held against the schema of its template: those not known yet are learnt."""
        unknown_at_most = len(requests)
        schemas = StoredSchemas(self._schemas)
        while True:
            texts = (request_json(request, self.settings, schemas) for request in requests)
            try:
                return self._send(f"[{','.join(texts)}]", connection)
            except ContextUnchecked as refused:
                # one more than there are templates: a new version may appear in between
                if unknown_at_most < 0:
                    raise
                unknown_at_most -= 1
                found = Reference(refused.namespace, refused.name, refused.found)
                asked = found._replace(version=refused.version)
                schemas.learn(asked, self._stored_schema(found, connection))

    def _stored_schema(self, version: Reference, connection: Any) -> tuple[dict[str, Any], str] | None:
        from tasker.db import queries

        if connection is None:
            return self.database.call(queries.get_context_schema, version)
        # a caller's transaction may see other versions than a new one
        return queries.get_context_schema(joined_connection(connection), version)

    def _send(self, text: str, connection: Any) -> Submitted:
        if connection is None:
            return self.engine.run(functions.submit_tasks, text, joined=False)
        joined = joined_connection(connection)
        with refusal_undone(joined):
            reply = functions.submit_tasks(joined, text, joined=True, moves=False)
        after_root_commit(connection, self._dispatch, [UUID(task.id) for task in reply.tasks])
        return reply

    def _dispatch(self, tasks: Sequence[UUID]) -> None:
        try:
            # no more than one call carries well: the caller waits for it
            self.engine.run(functions.dispatch_tasks, tasks[:SUBMIT_TASKS])
        except TaskerError as error:
            _log.warning("%s; the coordinator starts the tasks of this transaction", error)


def _objects(requests: Sequence[TaskRequest]) -> list[Template]:
    """The template objects among what is asked for, each once."""
    return list({id(r.template): r.template for r in requests if not isinstance(r.template, str)}.values())
