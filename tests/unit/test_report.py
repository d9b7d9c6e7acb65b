"""What a worker's log says of attempts that failed."""

from __future__ import annotations

from typing import Any

import pytest

from tasker import PermanentError, RetryableError
from tasker.domain.outcomes import Outcome, failed
from tasker.domain.redaction import Redaction
from tasker.worker.report import report_failure
from tests.unit.test_outcomes import claimed


def outcome_of(error: Exception, **fields: Any) -> Outcome:
    """What comes of an attempt that raised `error`."""
    try:
        raise error
    except type(error) as raised:
        return failed(claimed(**fields), raised, 0, 1, 4096, redaction=Redaction(["hunter2"]))


def test_an_attempt_that_is_retried_is_one_line_of_warning(caplog: pytest.LogCaptureFixture) -> None:
    report_failure(outcome_of(ConnectionError("no route\nto host"), failures=0, max_attempts=3))
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        "step charge of task t failed and is retried, attempt 1 of 3: ConnectionError: no route"
    )


def test_the_delay_that_a_handler_asked_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    report_failure(outcome_of(RetryableError("busy", retry_after=1.5), failures=1, max_attempts=3))
    assert "is retried in 1.5 s, attempt 2 of 3: tasker.RetryableError: busy" in caplog.text


@pytest.mark.parametrize(
    ("error", "failures"), [(PermanentError("no card"), 0), (ConnectionError("no card"), 2)]
)
def test_the_last_failure_is_an_error_with_its_traceback(
    caplog: pytest.LogCaptureFixture, error: Exception, failures: int
) -> None:
    report_failure(outcome_of(error, failures=failures, max_attempts=3))
    (line,) = caplog.records
    assert line.levelname == "ERROR"
    first, *traceback = line.getMessage().splitlines()
    assert first.startswith(f"step charge of task t failed for good, attempt {failures + 1} of 3: ")
    assert first.endswith("Error: no card")
    assert traceback[0] == "Traceback (most recent call last):"
    assert any("outcome_of" in each for each in traceback)


def test_no_line_holds_a_secret_or_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    secret = "password=swordfish at hunter2" + "x" * 10_000
    for last in (False, True):
        report_failure(outcome_of(ValueError(secret), failures=0, max_attempts=1 if last else 2))
    assert "swordfish" not in caplog.text
    assert "hunter2" not in caplog.text
    assert len(caplog.records[0].getMessage()) < 500
    assert len(caplog.records[1].getMessage()) < 10_000
