"""YAML text as a tree that knows its lines, for files that people write.

Built from PyYAML's events, whose parser keeps its own stack: depth is refused before anything recurses.
Scalars follow YAML 1.2's core schema (`on` and `12:30` are text). Anchors, aliases, tags, duplicate keys
and second documents are refused: a template is read by people, who would not see what they expand to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tasker.domain.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
_MAX_DIGITS = 4_000
_SHOWN = 60

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@dataclass(slots=True)
class Node:
    """A value and the line it (or, in a mapping, its key) stands on.

    `value` is a dict of nodes, a list of nodes, or a scalar.
    """

    value: Any
    line: int

    def plain(self) -> Any:
        """The value without its lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read_tree(text: str, source: str) -> Node:
    """The one document in `text`. Raises TemplateError: `source:line: …` for each problem."""
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.YAMLError as exc:
        raise TemplateError([*builder.problems, f"{source}{_described(exc, text)}"]) from exc
    if builder.root is None and not builder.problems:
        raise TemplateError(f"{source}:1: the file is empty")
    if builder.problems or builder.root is None:
        raise TemplateError(builder.problems)
    return builder.root


class _Builder:
    """Puts events together; `open` holds the collections that are not yet closed, `keys` their keys."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []
        self.root: Node | None = None
        self.open: list[Node] = []
        self.keys: list[Node | None] = []

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.DocumentStartEvent() if self.root is not None:
                raise TemplateError(
                    [*self.problems, f"{self.source}:{line}: a second document; use a file each"]
                )
            case yaml.AliasEvent():
                self.refuse(line, f"the alias *{event.anchor} is not allowed; write the value out")
                self.add(Node(None, line))
            case yaml.ScalarEvent():
                self.refuse_marks(event, line)
                self.add(Node(self.scalar(event, line), line))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.refuse_marks(event, line)
                self.enter(Node({} if isinstance(event, yaml.MappingStartEvent) else [], line))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.open.pop()
                self.keys.pop()

    def enter(self, node: Node) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise TemplateError(f"{self.source}:{node.line}: nested deeper than {MAX_DEPTH} levels")
        self.add(node)
        self.open.append(node)
        self.keys.append(None)

    def add(self, node: Node) -> None:
        if not self.open:
            self.root = node
            return
        holder = self.open[-1].value
        if isinstance(holder, list):
            holder.append(node)
            return
        key = self.keys[-1]
        if key is None:
            self.keys[-1] = node
            if not isinstance(node.value, str):
                self.refuse(node.line, f"the key {_shown(node.value)} is not text; quote it")
            elif node.value in holder:
                first = holder[node.value].line
                self.refuse(node.line, f'"{node.value}" is given twice, first on line {first}')
            return
        self.keys[-1] = None
        if isinstance(key.value, str):
            node.line = key.line
            holder.setdefault(key.value, node)

    def refuse_marks(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self.refuse(
                line, f"the anchor &{event.anchor} is not allowed; write the value out where it is used"
            )
        if event.tag is not None:
            self.refuse(line, f"the tag {event.tag} is not allowed; write plain values")

    def scalar(self, event: yaml.ScalarEvent, line: int) -> Any:
        text: str = event.value
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            if len(text) <= _MAX_DIGITS:
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            self.refuse(line, f"a number of more than {_MAX_DIGITS} digits; quote it")
            return None
        return (
            float(text.replace(".", "", 1) if text[-1] in "fFnN" else text)
            if _FLOAT.fullmatch(text)
            else text
        )

    def refuse(self, line: int, message: str) -> None:
        self.problems.append(f"{self.source}:{line}: {message}")


def _described(exc: yaml.YAMLError, text: str) -> str:
    """`:line: what is wrong`, in PyYAML's words."""
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark is not None:
        return f":{exc.problem_mark.line + 1}: {', '.join(_said(exc))}"
    if isinstance(exc, yaml.reader.ReaderError):
        line = text.count("\n", 0, exc.position) + 1
        return f":{line}: the character #x{exc.character:04x} is not allowed"
    return f": {exc}"


def _said(exc: yaml.MarkedYAMLError) -> Iterator[str]:
    for part in (exc.problem, exc.context):
        if part:
            yield part


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "of this entry"
    return repr(value)[:_SHOWN]
