"""How our commands log: one form for structlog's and the standard library's lines, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "***"
LOUD_LIBRARIES = ("celery.app.trace", "celery.worker.strategy")
"""They write two lines per message at INFO; that is the pace of steps, not of events."""

_SECRET_KEY = re.compile(
    r"passw(or)?d|secret|(^|_)token$|credential|authorization|api_?key|private_?key", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]+(?=@)", re.IGNORECASE)
_LIBPQ_PASSWORD = re.compile(r"(?P<before>\bpassword=)('[^']*'|[^\s&]+)", re.IGNORECASE)


def configure_logs(
    level: str, form: Literal["auto", "console", "json"] = "auto", stream: TextIO | None = None
) -> None:
    """Send every line of at least `level` to `stream` (standard error), as text for people or as JSON.

    `auto` is text when the stream is a terminal. Values under keys such as `password`, and passwords in URLs,
    are hidden, in tracebacks too; tracebacks show no local variables. Again replaces what was configured.
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
        hide_secrets,
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


def hide_secrets(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """A structlog processor that hides passwords and what lies under the name of a secret."""
    return {key: _hidden(key, value) for key, value in line.items()}


def without_passwords(text: str) -> str:
    """The text with every password in a URL, or in a libpq connection string, hidden."""
    return _LIBPQ_PASSWORD.sub(rf"\g<before>{HIDDEN}", _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}", text))


def _text(*, colours: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colours, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )


def _hidden(key: Any, value: Any) -> Any:
    if isinstance(key, str) and not key.startswith("_") and _SECRET_KEY.search(key):
        return HIDDEN
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, Mapping):
        return {name: _hidden(name, inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(None, inner) for inner in value]
    return value
