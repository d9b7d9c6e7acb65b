"""What our commands log, and what they never log."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tasker.domain.redaction import Redaction
from tasker.observability.logs import LOUD_LIBRARIES, configure_logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_of_the_standard_library_and_of_structlog_have_one_form(stream: io.StringIO) -> None:
    configure_logs("INFO", "json", stream)
    logging.getLogger("shop").info("%s orders", 3, extra={"queue": "slow"})
    structlog.get_logger("tasker.handler").info("charged", step="charge")
    first, second = lines(stream)
    first.pop("timestamp")
    second.pop("timestamp")
    assert first == {"level": "info", "logger": "shop", "event": "3 orders", "queue": "slow"}
    assert second == {"level": "info", "logger": "tasker.handler", "event": "charged", "step": "charge"}


def test_lines_are_json_unless_a_person_reads_them(stream: io.StringIO) -> None:
    terminal = Terminal()
    for to in (stream, terminal):
        configure_logs("INFO", "auto", to)
        logging.getLogger("shop").info("ready")
    assert lines(stream)[0]["event"] == "ready"
    assert "ready" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_a_chosen_form_holds_on_a_terminal_and_in_a_file(stream: io.StringIO) -> None:
    terminal = Terminal()
    configure_logs("INFO", "json", terminal)
    logging.getLogger("shop").info("ready")
    configure_logs("INFO", "console", stream)
    logging.getLogger("shop").info("ready")
    assert lines(terminal)[0]["event"] == "ready"
    assert "[info     ] ready" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_lines_below_the_level_are_dropped(stream: io.StringIO) -> None:
    configure_logs("WARNING", "json", stream)
    logging.getLogger("shop").info("quiet")
    structlog.get_logger("tasker.handler").info("quiet")
    logging.getLogger("shop").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_configuring_again_does_not_double_the_lines(stream: io.StringIO) -> None:
    configure_logs("INFO", "json", io.StringIO())
    configure_logs("INFO", "json", stream)
    logging.getLogger("shop").info("once")
    assert len(lines(stream)) == 1


@pytest.mark.parametrize(
    "key", ["password", "db_passwd", "client_secret", "access_token", "Authorization", "apikey", "api_key"]
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_what_lies_under_the_name_of_a_secret_is_hidden(stream: io.StringIO, key: str, form: Any) -> None:
    configure_logs("INFO", form, stream)
    structlog.get_logger("tasker.handler").info("call", **{key: "hunter2"}, body=[{key: ("hunter2",)}])
    logging.getLogger("shop").info("call", extra={key: "hunter2", "headers": {key: "hunter2"}})
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") == 4


def test_a_word_that_only_resembles_a_secret_is_shown(stream: io.StringIO) -> None:
    configure_logs("INFO", "json", stream)
    structlog.get_logger("tasker.handler").info("call", tokens_used=512, idempotency_key="order-1")
    assert lines(stream)[0]["tokens_used"] == 512
    assert lines(stream)[0]["idempotency_key"] == "order-1"


def test_what_looks_like_a_secret_is_hidden_in_any_value_and_known_ones_wherever_they_stand(
    stream: io.StringIO,
) -> None:
    configure_logs("INFO", "json", stream, Redaction(["known-secret"]))
    log = structlog.get_logger("tasker.handler")
    log.info("token=hunter2", error=ValueError("password=hunter2"), at=[{"deep": ("known-secret",)}])
    logging.getLogger("shop").info("known-secret in %s", Path("/srv/known-secret"))
    assert "hunter2" not in stream.getvalue()
    assert "known-secret" not in stream.getvalue()
    assert [line["event"] for line in lines(stream)] == ["token=***", "*** in /srv/***"]


class Unreadable(dict[str, str]):
    def __str__(self) -> str:
        raise RuntimeError("no")

    items = __repr__ = __str__  # type: ignore[assignment]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_value_that_cannot_be_read_spoils_neither_the_line_nor_the_handler(
    stream: io.StringIO, form: Any
) -> None:
    circle: list[Any] = []
    circle.append(circle)
    configure_logs("INFO", form, stream)
    structlog.get_logger("tasker.handler").info("call", value=Unreadable(), circle=circle, keys={1: {(): 2}})
    assert "<Unreadable that cannot be read: RuntimeError>" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def charge(card_number: str) -> None:
    raise ValueError("cannot reach postgresql://shop:hunter2@db/shop")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_neither_passwords_nor_local_variables(stream: io.StringIO, form: Any) -> None:
    configure_logs("INFO", form, stream)
    card_number = "4111-1111"
    try:
        charge(card_number)
    except ValueError:
        logging.getLogger("shop").exception("failed")
        structlog.get_logger("tasker.handler").exception("failed")
    written = stream.getvalue()
    assert written.count("ValueError: cannot reach postgresql://shop:***@db/shop") == 2
    assert card_number not in written


def test_celery_does_not_log_each_message_unless_asked_for_everything(stream: io.StringIO) -> None:
    trace = logging.getLogger("celery.app.trace")
    configure_logs("INFO", "json", stream)
    trace.info("Task tasker.run_steps succeeded")
    assert lines(stream) == []
    configure_logs("DEBUG", "json", stream)
    trace.info("Task tasker.run_steps succeeded")
    assert len(lines(stream)) == 1


def test_warnings_are_logged_like_everything_else(stream: io.StringIO) -> None:
    configure_logs("INFO", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old call", stacklevel=1)
    assert "old call" in lines(stream)[0]["event"]
