"""Templates written in YAML files: `load_templates`.

The keys are the keywords of Python's `TaskTemplate`; tasker-core's load as aliases. A handler is named,
never imported: the registry must have it when the template is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from tasker.domain import retry, templates
from tasker.domain.errors import TemplateError
from tasker.domain.places import shown_path
from tasker.domain.retry import Retry
from tasker.domain.templates import Problem, StepDefinition, TemplateDefinition
from tasker.domain.version import split_full_name
from tasker.domain.wording import did_you_mean
from tasker.worker import registry
from tasker.worker.yaml_tree import Node, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterable

Lines = Mapping[templates.Path, int]


class Keys(NamedTuple):
    """The keys a mapping may have, the other names some of them load under, and those it must have."""

    owner: str
    known: tuple[str, ...]
    aliases: Mapping[str, str] = MappingProxyType({})
    required: tuple[str, ...] = ()


_TEMPLATE = Keys(
    "template",
    ("namespace", "name", "version", "description", "context_schema", "deadline_seconds", "steps"),
    {"namespace_name": "namespace", "input_schema": "context_schema"},
    required=("name", "version", "steps"),
)
_STEP = Keys(
    "step",
    (
        "name",
        "handler",
        "depends_on",
        "retry",
        "max_attempts",
        "timeout_seconds",
        "queue",
        "priority",
        "config",
        "description",
        "transactional",
        "start_within_seconds",
        "dispatch",
    ),
    {"dependencies": "depends_on"},
    required=("name",),
)
_HANDLER = Keys("handler", ("callable", "initialization"), required=("callable",))
_DISPATCH = Keys("dispatch", ("max_batch",))
_RETRY_ALIASES = {
    "backoff_base_ms": "base_seconds",
    "max_backoff_ms": "max_seconds",
    "retryable": "max_attempts",
}
_RETRY = Keys(
    "retry",
    ("max_attempts", "backoff", "base_seconds", "max_seconds", "jitter", "never_for", *_RETRY_ALIASES),
)
_NOT_ENFORCED = frozenset(
    {
        "batch_config",
        "composition",
        "domain_events",
        "environments",
        "lifecycle",
        "metadata",
        "method",
        "publishes_events",
        "resolver",
        "result_schema",
        "step_type",
        "system_dependencies",
        "system_dependency",
        "type",
    }
)
"""Keys that other versions or tasker-core know. Accepting one without acting on it would be a lie."""


class FileTemplate:
    """A template from a file. `definition` is checked when first read, as handlers may register later."""

    context_type = None

    def __init__(self, definition: TemplateDefinition, lines: Lines, source: str) -> None:
        self._declared = definition
        self._lines = lines
        self._source = source
        self._checked = False

    def __repr__(self) -> str:
        return f"FileTemplate({self.full_name}@{self.version}, {self.location})"

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return self._declared.full_name

    @property
    def version(self) -> str:
        """The SemVer version."""
        return self._declared.version

    @property
    def location(self) -> str:
        """`file:line` of the template."""
        return f"{self._source}:{_line(self._lines, ())}"

    @property
    def definition(self) -> TemplateDefinition:
        """The graph as data. Raises TemplateError naming handlers that are missing or do not fit."""
        if not self._checked:
            steps = self._declared.parents
            found = [
                Problem(("steps", index, field), message)
                for index, step in enumerate(self._declared.steps)
                for field, message in registry.process.step_problems(step, steps)
            ]
            _raise_for(found, self._declared, self._lines, self._source)
            self._checked = True
        return self._declared


def load_templates(
    path: str | Path, *, max_bytes: int | None = None, max_steps: int | None = None
) -> list[FileTemplate]:
    """Read a template file, or every `.yaml` and `.yml` file below a folder, into the registry.

    `max_bytes` of a file and `max_steps` of a template are the settings' when left out. Handlers are looked
    up when a template is first used. Raises TemplateError listing the problems of all files, each with file
    and line; nothing is registered then.
    """
    loaded = read_templates(path, max_bytes=max_bytes, max_steps=max_steps)
    for template in loaded:
        registry.process.add_template(template)
    return loaded


def read_templates(
    path: str | Path, *, max_bytes: int | None = None, max_steps: int | None = None
) -> list[FileTemplate]:
    """What `load_templates` reads, without registering it; for a look at files. Raises as it does."""
    found: list[str] = []
    loaded: list[FileTemplate] = []
    limits = registry.process.limits
    for file in template_files(Path(path)):
        try:
            loaded.append(_load(file, max_bytes or limits.max_bytes, max_steps or limits.max_steps))
        except TemplateError as exc:
            found += exc.problems
    if found:
        raise TemplateError(found)
    return loaded


def template_files(path: Path) -> list[Path]:
    """The file itself, or the template files below a folder. Raises TemplateError when there is none."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file())
    if not files:
        raise TemplateError(f"{shown_path(path)}: no .yaml or .yml file is in this folder")
    return files


def _load(file: Path, max_bytes: int, max_steps: int) -> FileTemplate:
    source = shown_path(file)
    reading = _Reading()
    definition = reading.template(read_tree(_text(file, source, max_bytes), source))
    found = reading.problems + [
        problem
        for problem in templates.problems(definition, max_steps=max_steps)
        if not reading.has_reported(problem.path)
    ]
    _raise_for(found, definition, reading.lines, source)
    return FileTemplate(definition, reading.lines, source)


def _text(file: Path, source: str, max_bytes: int) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(max_bytes + 1)
    except OSError as exc:
        raise TemplateError(f"{source}: cannot be read: {exc.strerror}") from exc
    if len(content) > max_bytes:
        raise TemplateError(f"{source}: larger than {max_bytes} bytes; split the template")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise TemplateError(f"{source}:{line}: this is not UTF-8 text") from exc


def _raise_for(found: Iterable[Problem], definition: TemplateDefinition, lines: Lines, source: str) -> None:
    ordered = sorted(found, key=lambda problem: _line(lines, problem.path))
    if ordered:
        raise TemplateError(
            [
                templates.describe(problem, definition, lambda path: f"{source}:{_line(lines, path)}")
                for problem in ordered
            ]
        )


def _line(lines: Lines, path: templates.Path) -> int:
    """The line of the nearest thing around `path` that has one."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Reading:
    """One tree read as a template: what was found wrong, and the line of everything read.

    Values are passed on as they are; `templates.problems` and `retry.problems` judge them.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[templates.Path, int] = {}

    def template(self, tree: Node) -> TemplateDefinition:
        self.lines[()] = tree.line
        given = self.entries(tree, (), _TEMPLATE)
        name = self.scalar(given, (), "name")
        namespace = self.scalar(given, (), "namespace")
        if namespace is None and isinstance(name, str):
            namespace, name = split_full_name(name)
        steps: Any = given["steps"].value if "steps" in given else []
        if not isinstance(steps, list):
            self.refuse(("steps",), "must be a list of steps")
            steps = []
        return TemplateDefinition(
            namespace=namespace,
            name=name,
            version=self.scalar(given, (), "version"),
            steps=tuple(self.step(node, index, f"{namespace}/{name}") for index, node in enumerate(steps)),
            description=self.scalar(given, (), "description", ""),
            context_schema=given["context_schema"].plain() if "context_schema" in given else None,
            deadline_seconds=self.scalar(given, (), "deadline_seconds"),
        )

    def step(self, node: Node, index: int, template: str) -> StepDefinition:
        path: templates.Path = ("steps", index)
        self.lines[path] = node.line
        given = self.entries(node, path, _STEP)
        name = self.scalar(given, path, "name")
        handler, config = self.handler(given, path, f"{template}.{name}")
        return StepDefinition(
            name=name,
            handler=handler,
            depends_on=self.parents(given, path),
            retry=self.retry(given, path),
            timeout_seconds=self.scalar(given, path, "timeout_seconds", templates.DEFAULT_TIMEOUT_SECONDS),
            queue=self.scalar(given, path, "queue"),
            priority=self.scalar(given, path, "priority", 0),
            config=config,
            description=self.scalar(given, path, "description", ""),
            transactional=self.scalar(given, path, "transactional", default=False),
            start_within_seconds=self.scalar(given, path, "start_within_seconds"),
            max_batch=self.max_batch(given, path),
        )

    def handler(self, given: Mapping[str, Node], path: templates.Path, default: str) -> tuple[Any, Any]:
        """The handler's name and the step's config, which tasker-core writes as the handler's."""
        config = given["config"].plain() if "config" in given else {}
        node = given.get("handler")
        if node is None:
            return default, config
        if not isinstance(node.value, dict):
            return self.scalar(given, path, "handler"), config
        parts = self.entries(node, (*path, "handler"), _HANDLER)
        if "initialization" in parts and "config" in given:
            self.refuse((*path, "config"), "is given here and as handler.initialization; keep one")
        elif "initialization" in parts:
            config = parts["initialization"].plain()
        return self.scalar(parts, (*path, "handler"), "callable", default), {} if config is None else config

    def parents(self, given: Mapping[str, Node], path: templates.Path) -> tuple[Any, ...]:
        node = given.get("depends_on")
        if node is None or node.value is None:
            return ()
        path = (*path, "depends_on")
        if not isinstance(node.value, list):
            self.refuse(path, "must be a list of step names")
            return ()
        for place, item in enumerate(node.value):
            self.lines[*path, place] = item.line
            if isinstance(item.value, dict | list):
                self.refuse((*path, place), "must be the name of a step")
        return tuple(item.value for item in node.value if not isinstance(item.value, dict | list))

    def max_batch(self, given: Mapping[str, Node], path: templates.Path) -> Any:
        """Dispatch's only key; what is wrong with it is shown at its line, under the keyword of Python."""
        if "dispatch" not in given:
            return None
        inside = (*path, "dispatch")
        entries = self.entries(given["dispatch"], inside, _DISPATCH)
        self.lines[*path, "max_batch"] = self.lines.get((*inside, "max_batch"), given["dispatch"].line)
        return self.scalar(entries, inside, "max_batch")

    def retry(self, given: Mapping[str, Node], path: templates.Path) -> Retry:
        values: dict[str, Any] = {}
        if "max_attempts" in given:
            values["max_attempts"] = given["max_attempts"].plain()
            if "retry" in given:
                self.refuse((*path, "max_attempts"), "is given beside retry; keep one")
        elif "retry" in given:
            path = (*path, "retry")
            values = self.policy(self.entries(given["retry"], path, _RETRY), path)
        found = list(retry.problems(values))
        for field, message in found:
            self.refuse((*path, field), message)
        return Retry() if found else Retry(**values)

    def policy(self, given: Mapping[str, Node], path: templates.Path) -> dict[str, Any]:
        """Retry's keywords, from its own keys and tasker-core's."""
        values: dict[str, Any] = {}
        for key, node in given.items():
            value = node.plain()
            field = _RETRY_ALIASES.get(key, key)
            self.lines[*path, field] = node.line
            if key == "retryable":
                if not isinstance(value, bool):
                    self.refuse((*path, key), "must be true or false")
                continue
            if field in values:
                self.refuse((*path, key), f"{field} is given by two keys; keep one")
            values[field] = value / 1000 if key.endswith("_ms") and type(value) in (int, float) else value
        if "retryable" in given and given["retryable"].value is False:
            values["max_attempts"] = 1
        return values

    def entries(self, node: Node, path: templates.Path, keys: Keys) -> dict[str, Node]:
        """The entries of a mapping under their own names; what is missing or unknown is reported."""
        if not isinstance(node.value, dict):
            self.refuse(path, f"must be a mapping with the keys of a {keys.owner}")
            return {}
        entries: dict[str, Node] = {}
        for written, item in node.value.items():
            key = keys.aliases.get(written, written)
            self.lines[*path, key] = item.line
            if written in _NOT_ENFORCED:
                self.refuse((*path, written), "is not acted on by this version; remove the key")
            elif key not in keys.known:
                nearest = did_you_mean(written, (*keys.known, *keys.aliases))
                self.refuse((*path, written), f"is not a key of a {keys.owner}{nearest}")
            elif key in entries:
                self.refuse((*path, key), f"is given twice, once as an alias ({written}); keep one")
            else:
                entries[key] = item
        for key in keys.required:
            if key not in entries:
                self.refuse((*path, key), "is missing")
        return entries

    def scalar(self, given: Mapping[str, Node], path: templates.Path, key: str, default: Any = None) -> Any:
        """A single value; `default` where the key is absent or empty."""
        value = given[key].value if key in given else None
        if isinstance(value, dict | list):
            self.refuse((*path, key), "must be a single value")
            return default
        return default if value is None else value

    def has_reported(self, path: templates.Path) -> bool:
        """Whether a problem of this value, or of one around it, is known."""
        around = {path[:length] for length in range(len(path) + 1)}
        return any(problem.path in around for problem in self.problems)

    def refuse(self, path: templates.Path, message: str) -> None:
        self.problems.append(Problem(path, message))
