"""An exception as plain data, whatever it holds: what is stored of a failed attempt.

Nothing that an exception does when looked at gets out of here: its `str()` may raise anything, or return
no text, or ten megabytes of it; its causes may be thousands, or a circle.
"""

from __future__ import annotations

import json
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasker.domain.redaction import BY_RULES, Redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

LEAST_BYTES = 1024
"""Below this there is no room for names, message and traceback together."""

_NAME_BYTES = 200
_PUNCTUATION_BYTES = 120
_SUFFIX_BYTES = 32
_LOOKED_AT = 4
"""So many times what may be kept is searched for secrets: one that is cut in two would not be found."""

_FRAMES = 60
_LINKS = 8
_MEMBERS = 10
_LINE = 300
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_WHILE_HANDLED = "\nDuring handling of the above exception, another exception occurred:\n\n"


def describe(error: BaseException, limit_bytes: int, redaction: Redaction = BY_RULES) -> dict[str, Any]:
    """The exception as {"type", "message", "traceback", "frame"}, of at most `limit_bytes` as JSON in UTF-8.

    Secrets are hidden. `traceback` begins at the handler, has its causes, the frames nearest to the error
    where there are many, and no local variables. `frame` is the innermost function of the application's own,
    as `module.function`, and absent when there is none. `limit_bytes` is LEAST_BYTES at least.
    """
    room = max(limit_bytes, LEAST_BYTES) - 2 * _NAME_BYTES - _PUNCTUATION_BYTES
    described = {
        "type": _head(_storable(type_name(type(error))), _NAME_BYTES),
        "message": _message(error, room // 3, redaction),
    }
    lines = _told(lambda: "".join(_traceback(error, redaction)), "the traceback")
    described["traceback"] = _tail(redaction.hide(_storable(_window_end(lines, room))), room - room // 3)
    frame = _told(lambda: _own_frame(error.__traceback__), "the frame")
    if frame:
        described["frame"] = _head(_storable(frame), _NAME_BYTES)
    return described


def type_name(kind: type[BaseException]) -> str:
    """The name of an exception class: `ValueError`, `shop.CardRefused`, `tasker.PermanentError`."""

    def named() -> str:
        # ours by the name that users import them under
        module = "tasker" if kind.__module__ == "tasker.domain.errors" else kind.__module__
        return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"

    return _told(named, "the name")


def shortened(text: str, room: int) -> str:
    """The beginning of a text, of at most `room` bytes as JSON, and how long it was."""
    if _size(text) <= room:
        return text
    return f"{_head(text, room - _SUFFIX_BYTES)}… ({len(text)} characters)"


def _told(tell: Callable[[], str], about: str) -> str:
    """What `tell` returns; code of the application runs in it, and may do anything."""
    try:
        return tell()
    except BaseException as broken:  # noqa: BLE001 - even SystemExit: it is part of what is told
        return f"<{about} could not be read: {_plain_name(broken)}>"


def _plain_name(error: BaseException) -> str:
    """The class's name in spite of its metaclass."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def _message(error: BaseException, room: int, redaction: Redaction) -> str:
    text = _told(lambda: _plain(str(error)), "the message")
    looked_at = _window_start(text, room)
    hidden = redaction.hide(_storable(looked_at))
    if len(looked_at) == len(text):
        return shortened(hidden, room)
    return f"{_head(hidden, room - _SUFFIX_BYTES)}… ({len(text)} characters)"


def _plain(text: str) -> str:
    """The text as a plain str: a subclass may have methods that raise."""
    return str.__str__(text)


def _window_start(text: str, room: int) -> str:
    """As much of the beginning as is looked at; it ends at a space, so that no secret is cut."""
    if len(text) <= _LOOKED_AT * room:
        return text
    window = text[: _LOOKED_AT * room]
    return window[: max(window.rfind(" "), window.rfind("\n"), room)]


def _window_end(text: str, room: int) -> str:
    """As much of the end as is looked at, from the beginning of a line."""
    if len(text) <= _LOOKED_AT * room:
        return text
    window = text[-_LOOKED_AT * room :]
    return window[min(window.find("\n") + 1, len(window) - room) :]


def _traceback(error: BaseException, redaction: Redaction) -> Iterator[str]:
    """The frames of the error's causes, the first cause first, and its own; texts end with a new line."""
    chain: list[tuple[BaseException, str]] = []
    link: BaseException | None = error
    joint = ""
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        if len(chain) == _LINKS:
            yield "… (earlier causes are left out)\n"
            break
        chain.append((link, joint))
        seen.add(id(link))
        cause, context = link.__cause__, link.__context__
        joint = _CAUSED if cause is not None else _WHILE_HANDLED
        link = cause if cause is not None or link.__suppress_context__ else context
    for link, joint in reversed(chain):
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(_from_handler(link.__traceback__), limit=-_FRAMES)
        if link is not error:
            yield _line(link, redaction)
        yield from _members(link, redaction)
        yield joint


def _from_handler(outermost: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames in which the engine called the handler; whole if it has no others."""
    step = outermost
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if _owner(file) != "engine" and not file.startswith(_EVENT_LOOP):
            return step
        step = step.tb_next
    return outermost


def _line(error: BaseException, redaction: Redaction) -> str:
    return f"{type_name(type(error))}: {_message(error, _LINE, redaction)}\n"


def _members(error: BaseException, redaction: Redaction) -> Iterator[str]:
    """A line for each of the first exceptions in a group; a group in it is one of them."""
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions):
            if number == _MEMBERS:
                yield f"  | … and {len(error.exceptions) - _MEMBERS} more\n"
                return
            yield f"  | {_line(member, redaction)}"


def _own_frame(innermost: TracebackType | None) -> str:
    """The innermost frame of the application's own code; where all is installed, that of the handler."""
    own: FrameType | None = None
    first: FrameType | None = None
    step = innermost
    while step is not None:
        owner = _owner(step.tb_frame.f_code.co_filename)
        if owner == "application":
            own = step.tb_frame
        elif owner == "library" and first is None:
            first = step.tb_frame
        step = step.tb_next
    found = own or first
    return "" if found is None else f"{found.f_globals.get('__name__')}.{found.f_code.co_qualname}"


_EVENT_LOOP = f"{sysconfig.get_path('stdlib')}/asyncio/"
_ENGINE = str(Path(__file__).resolve().parent.parent) + "/"
_EXAMPLES = f"{_ENGINE}_examples/"
_LIBRARIES = tuple(
    f"{path}/" for name, path in sysconfig.get_paths().items() if name.endswith(("stdlib", "lib"))
)


@lru_cache(maxsize=4096)
def _owner(filename: str) -> str:
    if filename.startswith(_ENGINE) and not filename.startswith(_EXAMPLES):
        return "engine"
    if filename.startswith(_EXAMPLES):
        return "application"
    return "library" if filename.startswith((*_LIBRARIES, "<")) else "application"


def _size(text: str) -> int:
    """Bytes of the text within JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def _head(text: str, room: int) -> str:
    while (size := _size(text)) > room:
        text = text[: len(text) * room // size]
    return text


def _tail(text: str, room: int) -> str:
    while (size := _size(text)) > room:
        text = text[len(text) - len(text) * room // size :]
    return text


def _storable(text: str) -> str:
    """The text without what PostgreSQL's jsonb refuses: NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
