"""What the command line takes for a time span, a time, a step; and what it makes of errors."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from uuid import UUID

import click
import pytest

from tasker.cli.failures import MEANINGS, ExitCode, exit_code, report
from tasker.cli.options import Duration, Moment, StepName, TaskId
from tasker.domain import errors

ID = "01981f6e-7c1a-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("0.5s", 0.5), ("5m", 300), ("2h", 7200), ("1.5d", 129_600)],
)
def test_a_time_span_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "5 m", "1e9", "inf", "nan", "5w"])
def test_what_is_no_time_span_is_answered_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90, 90s, 5m, 2h or 1d"):
        Duration().convert(text, None, None)


def test_a_time_to_come_is_left_to_the_database_when_it_is_a_time_span() -> None:
    assert Moment().convert("10m", None, None) == timedelta(minutes=10)


def test_a_time_that_was_is_counted_back_from_now() -> None:
    found = Moment(past=True).convert("2h", None, None)
    assert isinstance(found, datetime)
    assert abs(datetime.now(UTC) - timedelta(hours=2) - found) < timedelta(minutes=1)


def test_a_time_without_an_offset_is_local() -> None:
    assert Moment().convert("2026-01-31T09:00+01:00", None, None) == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert Moment().convert("2026-01-31T09:00", None, None) == datetime(2026, 1, 31, 9).astimezone()


def test_a_step_is_named_by_its_task_and_its_name() -> None:
    assert StepName().convert(f"{ID}/charge", None, None) == (UUID(ID), "charge")


@pytest.mark.parametrize("text", [ID, f"{ID}/", "charge"])
def test_half_a_step_is_answered_with_its_form(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write TASK_ID/STEP"):
        StepName().convert(text, None, None)


def test_what_is_no_task_id_is_told_where_ids_are() -> None:
    with pytest.raises(click.BadParameter, match="`tasker task list`"):
        TaskId().convert("order-1", None, None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TemplateError("a.yaml:1: x"), ExitCode.FAILURE),
        (errors.SettingsError("x"), ExitCode.FAILURE),
        (errors.SchemaBehind("x"), ExitCode.FAILURE),
        (errors.ValueRefused("x"), ExitCode.USAGE),
        (errors.TaskNotFound("x"), ExitCode.NOT_FOUND),
        (errors.StepNotFound("x"), ExitCode.NOT_FOUND),
        (errors.TemplateNotFound("x"), ExitCode.NOT_FOUND),
        (errors.StateConflict("x"), ExitCode.CONFLICT),
        (errors.IdempotencyConflict("x"), ExitCode.CONFLICT),
        (errors.TemplateConflict("x"), ExitCode.CONFLICT),
        (errors.Unreachable("x"), ExitCode.UNREACHABLE),
        (errors.WaitTimeout("x"), ExitCode.TIMED_OUT),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError("x"), ExitCode.FAILURE),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) is code


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)


def test_every_problem_of_a_template_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.TemplateError(["a.yaml:1: one", "a.yaml:2: two"]))
    assert capsys.readouterr().err == "error: a.yaml:1: one\nerror: a.yaml:2: two\n"


def test_an_error_never_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.Unreachable("postgresql://shop:hunter2@db/shop does not answer"))
    assert "hunter2" not in capsys.readouterr().err


def test_a_file_that_python_cannot_read_is_shown_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "brokenshop.py"
    broken.write_text("import os\ndef charge(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SyntaxError) as caught:
        import_module("brokenshop")
    report(caught.value)
    assert capsys.readouterr().err == f"error: SyntaxError: invalid syntax ({broken}:2): def charge(:\n"


def test_an_error_nobody_foresaw_says_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        {}["order_id"]
    except KeyError as error:
        line = inspect.currentframe().f_lineno - 2  # type: ignore[union-attr]
        report(error)
    said = capsys.readouterr().err
    assert said == f"error: KeyError: 'order_id' ({__file__}:{line}); TASKER_DEBUG=1 shows the traceback\n"
