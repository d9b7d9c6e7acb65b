"""A template's definition: the graph as data, its stored JSON, and the check that it can run."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from tasker.domain import graph
from tasker.domain.errors import TemplateError, ValueRefused
from tasker.domain.retry import Retry
from tasker.domain.schemas import schema_problems
from tasker.domain.values import checked_text, encode
from tasker.domain.version import NAME, NAME_RULE, is_version
from tasker.domain.wording import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DEFAULT_RETRY = Retry()
DEFAULT_TIMEOUT_SECONDS = 300.0
MAX_TIMEOUT_SECONDS = 24 * 86_400
MAX_DEADLINE_SECONDS = 366 * 86_400
MAX_PRIORITY = 100
MAX_BATCH = 64
MAX_STEPS = 10_000
HANDLER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,319}")
RESERVED_STEP_NAMES = frozenset({"connection", "context", "results", "step"})
"""As parameters of a handler these mean something else than a parent's result."""

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
_CONFIG_BYTES = 65_536
_SCHEMA_BYTES = 262_144
_LONGEST_DESCRIPTION = 10_000
_DEPTH = 64
_SUGGESTIONS = 20
"""Looking for the nearest name is slow; past so many wrong ones it helps nobody."""

Path = tuple[str | int, ...]
"""Where in a definition: ("steps", 2, "depends_on", 0)."""


class Problem(NamedTuple):
    """One finding about a definition."""

    path: Path
    message: str


@dataclass(frozen=True)
class StepDefinition:
    """One node. `queue` None takes the app's default queue; a higher `priority` runs first.

    What a `transactional` step writes through its connection commits together with its completion.
    `start_within_seconds` is how long it may wait for a worker once it may run; None is for ever. A message
    that carries the step holds at most `max_batch` steps; None is as many as fit.
    """

    name: str
    handler: str
    depends_on: tuple[str, ...] = ()
    retry: Retry = DEFAULT_RETRY
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    queue: str | None = None
    priority: int = 0
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    description: str = ""
    transactional: bool = False
    start_within_seconds: float | None = None
    max_batch: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The stored form; SQL reads it.

        A field that is younger than the first release is left out while it has its default: the digests of
        older definitions stay what they are.
        """
        younger: dict[str, Any] = {"transactional": True} if self.transactional else {}
        if self.start_within_seconds is not None:
            younger["start_within_ms"] = max(1, round(self.start_within_seconds * 1000))
        if self.max_batch is not None:
            younger["max_batch"] = self.max_batch
        config = self.config
        if config:
            text = encode(config, limit_bytes=_CONFIG_BYTES, max_depth=_DEPTH, where="config")
            config = json.loads(text)
        return {
            "name": self.name,
            "handler": self.handler,
            "depends_on": list(self.depends_on),
            "queue": self.queue,
            "priority": self.priority,
            "timeout_ms": max(1, round(self.timeout_seconds * 1000)),
            "retry": self.retry.to_json(),
            "config": config,
            "description": self.description,
            **younger,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StepDefinition:
        """The step that `to_json` wrote."""
        return cls(
            name=stored["name"],
            handler=stored["handler"],
            depends_on=tuple(stored["depends_on"]),
            retry=Retry.from_json(stored["retry"]),
            timeout_seconds=stored["timeout_ms"] / 1000,
            queue=stored["queue"],
            priority=stored["priority"],
            config=stored["config"],
            description=stored["description"],
            transactional=stored.get("transactional", False),
            start_within_seconds=stored["start_within_ms"] / 1000 if "start_within_ms" in stored else None,
            max_batch=stored.get("max_batch"),
        )


@dataclass(frozen=True)
class TemplateDefinition:
    """A version of a graph. `context_schema` is the JSON Schema of contexts submitted with it.

    `deadline_seconds` is what each task may take from the time it may start.
    """

    namespace: str
    name: str
    version: str
    steps: tuple[StepDefinition, ...]
    description: str = ""
    context_schema: dict[str, Any] | None = None
    deadline_seconds: float | None = None

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Each step's parents, by name, in the definition's order."""
        return {step.name: step.depends_on for step in self.steps}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what the template does: no descriptions, and the order of parents is nothing."""
        content = self.to_json()
        del content["description"]
        content["context_schema"] = _without_descriptions(content["context_schema"])
        for step in content["steps"]:
            del step["description"]
            step["depends_on"].sort()
        return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def levels(self) -> list[list[str]]:
        """Step names by their longest way from a root."""
        return graph.levels(self.parents)

    def mermaid(self, states: Mapping[str, str] | None = None) -> str:
        """The graph as Mermaid text; with `states` (step name to state) as a run of it."""
        return graph.mermaid(self.parents, states)

    def to_json(self) -> dict[str, Any]:
        """The stored form; SQL reads it."""
        seconds = self.deadline_seconds
        return {
            "namespace": self.namespace,
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "context_schema": self.context_schema,
            "steps": [step.to_json() for step in self.steps],
            # left out where there is none, as in templates that were stored before there were any
            **({} if seconds is None else {"deadline_ms": max(1, round(seconds * 1000))}),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TemplateDefinition:
        """The definition that `to_json` wrote."""
        return cls(
            namespace=stored["namespace"],
            name=stored["name"],
            version=stored["version"],
            steps=tuple(StepDefinition.from_json(step) for step in stored["steps"]),
            description=stored["description"],
            context_schema=stored["context_schema"],
            deadline_seconds=stored["deadline_ms"] / 1000 if "deadline_ms" in stored else None,
        )


def check(
    definition: TemplateDefinition, source: str | Callable[[Path], str], *, max_steps: int = MAX_STEPS
) -> None:
    """Raise TemplateError listing every problem, each behind `source` (or what it says for the path)."""
    locate = source if callable(source) else lambda _: source
    found = [describe(problem, definition, locate) for problem in problems(definition, max_steps=max_steps)]
    if found:
        raise TemplateError(found)


def describe(problem: Problem, definition: TemplateDefinition, locate: Callable[[Path], str]) -> str:
    """One line of a TemplateError: where, about what, and what is wrong."""
    match problem.path:
        case ("steps", int(index), *rest) if index < len(definition.steps):
            field = ".".join(part for part in rest if isinstance(part, str))
            name: object = definition.steps[index].name
            about = f'step "{name}"' if isinstance(name, str) else f"step number {index + 1}"
            about += f", {field}" if field else ""
        case path:
            about = ".".join(str(part) for part in path)
    return f"{locate(problem.path)}: {about + ': ' if about else ''}{problem.message}"


def problems(definition: TemplateDefinition, *, max_steps: int = MAX_STEPS) -> Iterator[Problem]:
    """Everything that keeps the definition from being stored; values of a wrong type included."""
    yield from _head_problems(definition)
    if not definition.steps:
        yield Problem(("steps",), "a template needs at least one step")
    elif len(definition.steps) > max_steps:
        yield Problem(
            ("steps",),
            f"{len(definition.steps)} steps are over the limit of {max_steps} (template_max_steps)",
        )
        return
    for index, step in enumerate(definition.steps):
        for field_name, message in _step_problems(step):
            yield Problem(("steps", index, field_name), message)
    yield from _edge_problems(definition)
    yield from _cycle_problems(definition)


def is_limit(seconds: object, most: float) -> bool:
    """Whether this is a length of time above 0 and no longer than `most` seconds."""
    return type(seconds) in {int, float} and 0 < seconds <= most  # type: ignore[operator]


# The checks take what authors wrote, whatever its type: declared types are what they check.


def _head_problems(definition: Any) -> Iterator[Problem]:
    for part in ("namespace", "name"):
        value = getattr(definition, part)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            yield Problem((part,), f"{shown(value)} {NAME_RULE}")
    if not is_version(definition.version):
        yield Problem(("version",), f"{shown(definition.version)} is not a version such as 1.0.0")
    for message in _description_problems(definition.description):
        yield Problem(("description",), message)
    seconds = definition.deadline_seconds
    if seconds is not None and not is_limit(seconds, MAX_DEADLINE_SECONDS):
        yield Problem(
            ("deadline_seconds",), f"must be above 0 and at most {MAX_DEADLINE_SECONDS}, not {shown(seconds)}"
        )
    if definition.context_schema is not None:
        unstorable = list(_json_problems(definition.context_schema, "context_schema", _SCHEMA_BYTES))
        for message in unstorable or schema_problems(definition.context_schema):
            yield Problem(("context_schema",), message)


def _step_problems(step: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(step.name, str) or not NAME.fullmatch(step.name):
        yield "name", f"{shown(step.name)} {NAME_RULE}"
    elif step.name in RESERVED_STEP_NAMES:
        yield "name", f'"{step.name}" means something else as a parameter of a handler; use another name'
    if not isinstance(step.handler, str) or not HANDLER_NAME.fullmatch(step.handler):
        yield "handler", f"{shown(step.handler)} is not a handler's name, such as orders.charge"
    seconds, priority = step.timeout_seconds, step.priority
    if not is_limit(seconds, MAX_TIMEOUT_SECONDS):
        yield "timeout_seconds", f"must be above 0 and at most {MAX_TIMEOUT_SECONDS}, not {shown(seconds)}"
    if step.queue is not None and (not isinstance(step.queue, str) or not _QUEUE_NAME.fullmatch(step.queue)):
        yield "queue", f"{shown(step.queue)} is not the name of a queue"
    if type(priority) is not int or abs(priority) > MAX_PRIORITY:
        yield (
            "priority",
            f"must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {shown(priority)}",
        )
    yield from (("description", message) for message in _description_problems(step.description))
    within = step.start_within_seconds
    if within is not None and not is_limit(within, MAX_TIMEOUT_SECONDS):
        yield (
            "start_within_seconds",
            f"must be above 0 and at most {MAX_TIMEOUT_SECONDS}, not {shown(within)}",
        )
    most = step.max_batch
    if most is not None and (type(most) is not int or not 1 <= most <= MAX_BATCH):
        yield "max_batch", f"must be a whole number from 1 to {MAX_BATCH}, not {shown(most)}"
    if not isinstance(step.transactional, bool):
        yield "transactional", f"must be true or false, not {shown(step.transactional)}"
    yield from (("config", message) for message in _config_problems(step.config))


def _config_problems(config: Any) -> Iterator[str]:
    if not isinstance(config, dict):
        yield f"must be a JSON object, not {shown(config)}"
        return
    yield from _json_problems(config, "config", _CONFIG_BYTES)


def _json_problems(value: Any, where: str, limit_bytes: int) -> Iterator[str]:
    try:
        encode(value, limit_bytes=limit_bytes, max_depth=_DEPTH, where=where)
    except ValueRefused as exc:
        yield str(exc).removeprefix(f"{where}: ")


def _description_problems(description: Any) -> Iterator[str]:
    try:
        checked_text(description, "description", _LONGEST_DESCRIPTION)
    except ValueRefused as exc:
        yield str(exc).removeprefix("description: ")


def _edge_problems(definition: Any) -> Iterator[Problem]:
    known = {step.name for step in definition.steps if isinstance(step.name, str)}
    repeated: set[str] = set()
    suggestions = _SUGGESTIONS
    for index, step in enumerate(definition.steps):
        if step.name in repeated:
            yield Problem(("steps", index, "name"), "another step has this name")
        repeated.add(step.name)
        named: set[object] = set()
        for place, parent in enumerate(step.depends_on):
            path = ("steps", index, "depends_on", place)
            if parent == step.name:
                yield Problem(path, f"a cycle: {parent} -> {parent}")
            elif parent not in known:
                suggestions -= 1
                nearest = did_you_mean(str(parent), known) if suggestions >= 0 else ""
                yield Problem(path, f'"{parent}" is not a step of this template{nearest}')
            elif parent in named:
                yield Problem(path, f'"{parent}" is named twice')
            named.add(parent)


def _cycle_problems(definition: TemplateDefinition) -> Iterator[Problem]:
    parents: dict[str, list[str]] = {}
    for step in definition.steps:
        parents.setdefault(step.name, [parent for parent in step.depends_on if parent != step.name])
    cycle = graph.find_cycle(parents)
    if cycle:
        index = next(index for index, step in enumerate(definition.steps) if step.name == cycle[0])
        yield Problem(("steps", index, "depends_on"), f"a cycle: {' -> '.join(cycle)}")


def _without_descriptions(schema: Any) -> Any:
    """The schema less its texts for people; a property called "description" is an object, and stays."""
    if isinstance(schema, dict):
        return {
            key: _without_descriptions(value)
            for key, value in schema.items()
            if key != "description" or not isinstance(value, str)
        }
    if isinstance(schema, list):
        return [_without_descriptions(item) for item in schema]
    return schema
