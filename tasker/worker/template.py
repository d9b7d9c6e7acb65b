"""Templates written in Python: `TaskTemplate` and its `step` decorator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack, overload

from pydantic import TypeAdapter

from tasker.domain import templates
from tasker.domain.errors import TemplateError
from tasker.domain.places import calling_place
from tasker.domain.retry import Retry
from tasker.domain.templates import (
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT_SECONDS,
    HANDLER_NAME,
    Problem,
    StepDefinition,
    TemplateDefinition,
)
from tasker.domain.version import split_full_name
from tasker.domain.wording import did_you_mean
from tasker.worker import registry
from tasker.worker.binding import parents_by_parameter
from tasker.worker.handler import Handler, handler_name

F = TypeVar("F", bound=Callable[..., Any])


class StepOptions(TypedDict, total=False):
    """The keywords of `TaskTemplate.step`; `TaskTemplate.add_step` says what they mean."""

    name: str
    handler: str
    depends_on: Sequence[str]
    retry: Retry
    max_attempts: int
    timeout_seconds: float
    queue: str
    priority: int
    config: Mapping[str, Any]
    description: str
    transactional: bool
    start_within_seconds: float | None
    max_batch: int | None


class TaskTemplate:
    """A versioned graph of steps, declared beside the functions that do their work.

    `full_name` is `namespace/name` (without a slash the namespace is `default`), `version` SemVer.
    `context` is the type of the input, usually a pydantic model: what is submitted with this object is
    validated to it, and handlers whose `context` parameter has no annotation get it. A task that has not
    settled within `deadline_seconds` of the time it may start ends in error. The template is checked at first
    use, so steps may name steps that are declared later.
    """

    def __init__(
        self,
        full_name: str,
        *,
        version: str,
        context: Any = None,
        description: str = "",
        deadline_seconds: float | None = None,
    ) -> None:
        self.namespace, self.name = split_full_name(full_name)
        self.version = version
        self.context_type = context
        self.description = description
        self.deadline_seconds = deadline_seconds
        self.location = calling_place()
        self._steps: list[tuple[StepDefinition, Handler]] = []
        self._definition: TemplateDefinition | None = None
        registry.process.add_template(self)

    def __repr__(self) -> str:
        return f"TaskTemplate({self.full_name}@{self.version}, {self.location})"

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @overload
    def step(self, function: F, /) -> F: ...
    @overload
    def step(self, function: None = None, /, **options: Unpack[StepOptions]) -> Callable[[F], F]: ...
    def step(self, function: Any = None, /, **options: Unpack[StepOptions]) -> Any:
        """Make a function a step, as `@template.step` or with the keywords of `add_step`.

        Returns the function unchanged, so that it can be called and tested as it is. Raises TemplateError for
        a keyword that there is not, and as `add_step`.
        """
        unknown = sorted(options.keys() - StepOptions.__annotations__.keys())
        if unknown:
            nearest = did_you_mean(unknown[0], StepOptions.__annotations__)
            raise self._refusal(None, f'"{unknown[0]}" is no keyword of a step{nearest}')

        def declare(call: F) -> F:
            self.add_step(call, **options)
            return call

        return declare if function is None else declare(function)

    def add_step(
        self,
        call: Callable[..., Any],
        /,
        *,
        name: str | None = None,
        handler: str | None = None,
        depends_on: Sequence[str] = (),
        retry: Retry | None = None,
        max_attempts: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        queue: str | None = None,
        priority: int = 0,
        config: Mapping[str, Any] | None = None,
        description: str = "",
        transactional: bool = False,
        start_within_seconds: float | None = None,
        max_batch: int | None = None,
    ) -> None:
        """Add a step whose work a function, bound method, callable object or Celery task does.

        `name` is the function's own when left out, `handler` (the name workers know it by)
        `namespace/name.step`. Parents are the steps named by `depends_on` and by the parameters.
        `max_attempts` is short for `Retry(max_attempts=…)`. `queue` None is the app's default queue;
        among steps that wait for a place a higher `priority` runs first. `config` is JSON for
        `StepContext.config`. The handler of a `transactional` step takes a `connection` to Tasker's database
        (psycopg's, or by annotation a SQLAlchemy Connection or Session); what it writes there commits
        together with the step's completion, or not at all. A step that no worker has begun
        `start_within_seconds` after it could run, held or not, ends in error. A message that carries the step
        holds at most `max_batch` steps (1 to 64), however quick they are expected to be.

        Raises TemplateError for what cannot be declared; the rest is checked at first use.
        """
        name = name or handler_name(call)
        if name is None:
            raise self._refusal(None, f"{call!r} has no name of its own; give the step a name=")
        if self._definition is not None:
            raise self._refusal(name, "the template is already in use; declare every step at import")
        if isinstance(depends_on, str) or not all(isinstance(parent, str) for parent in depends_on):
            raise self._refusal(name, f"depends_on takes a list of step names, not {depends_on!r}")
        if retry is not None and max_attempts is not None:
            raise self._refusal(name, "give max_attempts or retry, not both")
        step = StepDefinition(
            name=name,
            handler=handler or f"{self.full_name}.{name}",
            depends_on=tuple(depends_on),
            retry=retry or (DEFAULT_RETRY if max_attempts is None else Retry(max_attempts=max_attempts)),
            timeout_seconds=timeout_seconds,
            queue=queue,
            priority=priority,
            config=dict(config or {}),
            description=description,
            transactional=transactional,
            start_within_seconds=start_within_seconds,
            max_batch=max_batch,
        )
        self._steps.append((step, registry.process.add_handler(step.handler, call)))

    def _refusal(self, step: str | None, message: str) -> TemplateError:
        about = self.full_name if step is None else f'{self.full_name}, step "{step}"'
        return TemplateError(f"{calling_place()}: {about}: {message}")

    @property
    def definition(self) -> TemplateDefinition:
        """The graph as data, checked when first read. Raises TemplateError listing every problem."""
        if self._definition is None:
            self._definition = self._checked()
        return self._definition

    def _checked(self) -> TemplateDefinition:
        names = dict.fromkeys(step.name for step, _ in self._steps)
        schema, found = self._context_schema()
        definition = TemplateDefinition(
            namespace=self.namespace,
            name=self.name,
            version=self.version,
            steps=tuple(_with_parents(step, handler, names) for step, handler in self._steps),
            description=self.description,
            context_schema=schema,
            deadline_seconds=self.deadline_seconds,
        )
        found += templates.problems(definition, max_steps=registry.process.limits.max_steps)
        for index, step in enumerate(definition.steps):
            for field, message in registry.process.step_problems(step, names):
                found.append(Problem(("steps", index, field), message))
        if found:
            raise TemplateError([templates.describe(problem, definition, self._locate) for problem in found])
        return definition

    def _context_schema(self) -> tuple[dict[str, Any] | None, list[Problem]]:
        if self.context_type is None:
            return None, []
        try:
            return TypeAdapter(self.context_type).json_schema(), []
        except Exception as exc:  # noqa: BLE001 - a model's own schema code may raise anything
            return None, [Problem(("context",), f"{self.context_type!r} has no JSON Schema: {exc}")]

    def _locate(self, path: templates.Path) -> str:
        match path:
            case ("steps", int(index), *_):
                return self._steps[index][1].location
        return self.location


def step_handler(name: str) -> Callable[[F], F]:
    """Register a function as the handler that templates in files call by this name.

    Returns the function unchanged. Raises TemplateError when the name is another callable's.
    """
    given: Any = name
    if not isinstance(given, str) or not HANDLER_NAME.fullmatch(given):
        raise TemplateError(
            f'{calling_place()}: step_handler takes the name of a handler, as "orders.charge", not {name!r}'
        )

    def register(call: F) -> F:
        registry.process.add_handler(name, call)
        return call

    return register


def _with_parents(step: StepDefinition, handler: Handler, names: Mapping[str, object]) -> StepDefinition:
    try:
        named = parents_by_parameter(handler, names)
    except TemplateError:  # reported with the step's other problems
        named = []
    parents = tuple(dict.fromkeys((*step.depends_on, *named)))
    return step if parents == step.depends_on else replace(step, depends_on=parents)
