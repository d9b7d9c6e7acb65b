"""What a running step knows: the `step` parameter of a handler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - part of a public signature
from typing import Any, TypeVar, overload

from tasker.domain.errors import StepNotFound
from tasker.domain.fit import fit_to
from tasker.domain.values import fresh

T = TypeVar("T")


def _no_database(ancestor: str) -> Any:
    raise StepNotFound(f"this StepContext was made by hand: give it the result of {ancestor} in `results`")


def _never() -> bool:
    return False


@dataclass(eq=False, kw_only=True, slots=True)
class StepContext:
    """The step, its attempt and its inputs.

    `attempt` is 1 for the first run and grows by one with each failure, not with a lost worker.
    `context` is the task's input and `results` the direct parents' results, as plain JSON; a parent
    that was skipped, or resolved without a result, has None. `config` is the step's, from the template.
    `deadline` is when the task ends at the latest, with its offset; None without one.
    To call a handler in a test, make one by hand: task_id, step_id, name, attempt and max_attempts suffice.
    """

    task_id: str
    step_id: int
    name: str
    attempt: int
    max_attempts: int
    correlation_id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    results: Mapping[str, Any] = field(default_factory=dict, repr=False)
    context_json: dict[str, Any] = field(default_factory=dict, repr=False)
    deadline: datetime | None = None
    load_result: Callable[[str], Any] = field(default=_no_database, repr=False)
    is_cancelled: Callable[[], bool] = field(default=_never, repr=False)
    _context: dict[str, Any] | None = field(default=None, init=False, repr=False)
    _log: Any = field(default=None, init=False, repr=False)

    @property
    def context(self) -> dict[str, Any]:
        """The task's input; this step's own copy."""
        if self._context is None:
            self._context = fresh(self.context_json)
        return self._context

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt failed."""
        return self.attempt > 1

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure now puts the step into `error`."""
        return self.attempt >= self.max_attempts

    @property
    def cancelled(self) -> bool:
        """Whether this attempt was ended by somebody else: its task was cancelled, say, or the step resolved.

        True within 2 s after it happened, for handlers that have run for longer than a second. What such a
        handler still returns is refused, so it does best to clean up and return. Once `cancel_grace_seconds`
        have passed, StepCancelled is raised in it.
        """
        return self.is_cancelled()

    @property
    def idempotency_key(self) -> str:
        """`task_id/step`: the same in every attempt, for calls to systems that take such a key."""
        return f"{self.task_id}/{self.name}"

    @property
    def log(self) -> Any:
        """A structlog logger that says of each line which task, step and attempt wrote it."""
        if self._log is None:
            import structlog

            self._log = structlog.get_logger("tasker.handler").bind(
                task_id=self.task_id,
                step=self.name,
                attempt=self.attempt,
                correlation_id=self.correlation_id,
            )
        return self._log

    @overload
    def result(self, ancestor: str) -> Any: ...
    @overload
    def result(self, ancestor: str, kind: type[T]) -> T: ...
    def result(self, ancestor: str, kind: Any = None) -> Any:
        """The result of a step that comes before this one, near or far; with `kind` validated to it.

        A parent's is at hand; another's is read from the database at each call. None for a step that
        was skipped or resolved without a result. Raises StepNotFound, StepNotComplete; PermanentError
        when the result does not fit `kind`.
        """
        value = self.results[ancestor] if ancestor in self.results else self.load_result(ancestor)
        fit = (
            None
            if kind is None or value is None
            else fit_to(kind, f"the result of {ancestor}", from_json=True)
        )
        return value if fit is None else fit(value)


class LateResults(Mapping[str, Any]):
    """Results of more parents than a claim carries: `load` reads them all at the first access."""

    __slots__ = ("_load", "_loaded")

    def __init__(self, load: Callable[[], Mapping[str, Any]]) -> None:
        self._load = load
        self._loaded: Mapping[str, Any] | None = None

    def __getitem__(self, parent: str) -> Any:
        return self._all()[parent]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"LateResults({'not loaded' if self._loaded is None else f'{len(self._loaded)} results'})"

    def _all(self) -> Mapping[str, Any]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded
