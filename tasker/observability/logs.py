"""How our commands log: one form for structlog's and the standard library's lines, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from tasker.domain.redaction import BY_RULES, HIDDEN, Redaction

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

LOUD_LIBRARIES = ("celery.app.trace", "celery.worker.strategy")
"""They write two lines per message at INFO; that is the pace of steps, not of events."""

_SECRET_KEY = re.compile(
    r"passw(or)?d|secret|(^|_)token$|credential|authorization|api_?key|private_?key", re.IGNORECASE
)
_DEEPEST = 8
"""Levels of a logged value that are looked at; what lies deeper is left out."""


def configure_logs(
    level: str,
    form: Literal["auto", "console", "json"] = "auto",
    stream: TextIO | None = None,
    redaction: Redaction = BY_RULES,
) -> None:
    """Send every line of at least `level` to `stream` (standard error), as text for people or as JSON.

    `auto` is text when the stream is a terminal. Values under keys such as `password`, and what `redaction`
    finds, are hidden, in tracebacks too; tracebacks show no local variables. Again replaces what was
    configured.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        partial(_hide_secrets, redaction),
    ]
    as_text = form == "console" or (form == "auto" and on_terminal)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _text(colours=on_terminal) if as_text else structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else logging.WARNING)
    logging.captureWarnings(capture=True)


def _hide_secrets(redaction: Redaction, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """A structlog processor that hides secrets in text, and what lies under the name of one."""
    return {
        # what begins with _ is structlog's own
        key: value if key.startswith("_") else _hidden(redaction, key, value, 0)
        for key, value in line.items()
    }


def _text(*, colours: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colours, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )


def _hidden(redaction: Redaction, key: Any, value: Any, depth: int) -> Any:
    if isinstance(key, str) and _SECRET_KEY.search(key):
        return HIDDEN
    if isinstance(value, str):
        return redaction.hide(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    try:
        if isinstance(value, (Mapping, list, tuple)):
            return "…" if depth == _DEEPEST else _hidden_inside(redaction, value, depth + 1)
        return redaction.hide(str(value))
    except Exception as broken:  # noqa: BLE001 - what is logged may be broken in any way, the log may not
        return f"<{type(value).__name__} that cannot be read: {type(broken).__name__}>"


def _hidden_inside(redaction: Redaction, value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _hidden(redaction, name, inner, depth) for name, inner in value.items()}
    return [_hidden(redaction, None, inner, depth) for inner in value]
