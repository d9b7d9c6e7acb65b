"""What this process can run: one registry of handlers and templates, filled while modules are imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tasker.domain.errors import TemplateError
from tasker.domain.places import calling_place
from tasker.domain.wording import did_you_mean
from tasker.worker.binding import problems
from tasker.worker.handler import Handler, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tasker.domain.templates import StepDefinition, TemplateDefinition
    from tasker.settings import Settings


class TemplateLimits(NamedTuple):
    """How large a template may be: bytes of its file, and steps."""

    max_bytes: int
    max_steps: int


class Template(Protocol):
    """A template of this process, from Python or from a file."""

    @property
    def full_name(self) -> str:
        """`namespace/name`."""

    @property
    def version(self) -> str:
        """The SemVer version."""

    @property
    def context_type(self) -> Any:
        """What contexts are validated to where a handler does not say; None for plain JSON."""

    @property
    def location(self) -> str:
        """`file:line` where it was written."""

    @property
    def definition(self) -> TemplateDefinition:
        """The checked definition. Raises TemplateError listing every problem."""


class Registry:
    """Handlers by name and templates by full name and version."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._templates: dict[tuple[str, str], Template] = {}
        self._limits: TemplateLimits | None = None

    @property
    def limits(self) -> TemplateLimits:
        """The limits of templates: those obeyed, else of the settings where the process runs.

        Raises SettingsError when these are wrong.
        """
        if self._limits is None:
            from tasker.settings import load_settings

            return self.obey(load_settings())
        return self._limits

    def obey(self, settings: Settings) -> TemplateLimits:
        """Hold templates that are read or checked from now on to these settings; returns the limits."""
        self._limits = TemplateLimits(settings.template_max_bytes, settings.template_max_steps)
        return self._limits

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Every handler of this process by its name."""
        return self._handlers

    @property
    def templates(self) -> tuple[Template, ...]:
        """Every template of this process, in the order of registration."""
        return tuple(self._templates.values())

    def add_handler(self, name: str, call: Callable[..., Any]) -> Handler:
        """Register a callable under a name; the same one again changes nothing.

        Raises TemplateError for what cannot be a handler, and when the name has another callable.
        """
        present = self._handlers.get(name)
        if present is not None and present.is_same(call):
            return present
        handler = Handler(name, call)
        refused = refusal(call)
        if refused:
            raise TemplateError(f'{calling_place()}: handler "{name}": {call!r} {refused}')
        if present is None:
            self._handlers[name] = handler
            return handler
        twice = " (one file, imported under two module names)" if present.location == handler.location else ""
        raise TemplateError(f'two callables are named "{name}": {present.where}; and {handler.where}{twice}')

    def add_template(self, template: Template) -> None:
        """Register a template. Raises TemplateError when the name and version are another's."""
        present = self._templates.setdefault((template.full_name, template.version), template)
        if present is not template:
            raise TemplateError(
                f"two templates are named {template.full_name}@{template.version}: "
                f"{present.location}; and {template.location}"
            )

    def exchange_template(self, template: Template, other: Template) -> None:
        """Put `other`, which has the same name and another version, in the place of a template."""
        now = [other if each is template else each for each in self._templates.values()]
        self._templates = {(each.full_name, each.version): each for each in now}

    def template(self, full_name: str, version: str) -> Template | None:
        """The template of this name and version, if this process has it."""
        return self._templates.get((full_name, version))

    def check(self) -> None:
        """Check every template. Raises TemplateError listing the problems of all of them."""
        found: list[str] = []
        for template in self._templates.values():
            try:
                template.definition  # noqa: B018 - reading it checks it
            except TemplateError as exc:
                found += exc.problems
        if found:
            raise TemplateError(found)

    def step_problems(self, step: StepDefinition, steps: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """(field, message) for a step whose handler is missing here or does not fit it."""
        handler = self._handlers.get(step.handler)
        if handler is None:
            nearest = did_you_mean(step.handler, self._handlers)
            yield "handler", f'no handler is registered as "{step.handler}"{nearest}'
            return
        for message in problems(handler, step, steps.keys()):
            yield "handler", f"{message} ({handler.where})"


process = Registry()
"""The registry of this process."""
