"""`tasker dlq`, `tasker step park`, and what other commands say of dead letters."""

from __future__ import annotations

import pytest

from tasker.domain.errors import StepFailed
from tasker.orchestration.client import Tasker
from tests.integration.cli.typed import STORED, UNKNOWN, Run


@pytest.fixture
def task(tasks: Tasker) -> str:
    """A task of the stored template, which nobody works on."""
    return str(tasks.submit(STORED).id)


def test_a_parked_step_is_listed_shown_explained_and_put_back(run: Run, tasks: Tasker, task: str) -> None:
    parked = run("step", "park", f"{task}/validate", "--reason", "wrong price list", "-o", "json")
    assert parked.json == {"task_id": task, "steps": ["validate"]}
    (letter,) = run("dlq", "list", "--open", "--reason", "parked", "-o", "json").json["items"]
    assert (letter["task_id"], letter["step"], letter["closed_at"]) == (task, "validate", None)
    assert letter["error"] == {"type": "parked", "message": "wrong price list"}
    assert run("dlq", "show", str(letter["id"]), "-o", "json").json == letter
    assert run("step", "show", f"{task}/validate", "-o", "json").json["dead_letter"] == letter
    for shown in (
        run("dlq", "list").out,
        run("dlq", "show", str(letter["id"])).out,
        run("step", "show", f"{task}/validate").out,
        run("task", "why", task).out,
    ):
        assert letter["fingerprint"] in shown
        assert "wrong price list" in shown
    assert "validate was parked (wrong price list)" in run("task", "why", task).out
    with pytest.raises(StepFailed, match="wrong price list"):
        tasks.task(task).result("validate")
    assert run("step", "retry", f"{task}/validate", "--reason", "list is right").code == 0
    closed = run("dlq", "show", str(letter["id"]), "-o", "json").json
    assert (closed["closed_by"].partition("@")[0], closed["closed_because"]) == ("ann", "list is right")
    assert run("dlq", "list", "--open", "-o", "json").json["items"] == []
    assert run("step", "show", f"{task}/validate", "-o", "json").json["dead_letter"] is None


def test_a_step_that_has_ended_cannot_be_parked_and_says_so(run: Run, task: str) -> None:
    run("task", "cancel", task)
    ended = run("step", "park", f"{task}/validate")
    assert ended.code == 4
    assert f"step {task}/validate is cancelled and cannot be parked" in ended.err


def test_letters_are_listed_newest_first_page_by_page_and_by_fingerprint(run: Run, task: str) -> None:
    for step, reason in (("validate", "one"), ("reserve", "two"), ("charge", "three")):
        run("step", "park", f"{task}/{step}", "--reason", reason)
    first = run("dlq", "list", "--limit", "2", "-o", "json").json
    rest = run("dlq", "list", "--cursor", first["next_cursor"], "-o", "json").json
    assert [item["step"] for item in first["items"] + rest["items"]] == ["charge", "reserve", "validate"]
    assert rest["next_cursor"] is None
    alike = run("dlq", "list", "--fingerprint", rest["items"][0]["fingerprint"], "-o", "json").json
    assert alike["items"] == rest["items"]
    assert run("dlq", "list", "--reason", "exhausted").err == "no dead letter fits\n"


def test_what_is_no_letter_no_cursor_and_no_reason_ends_with_its_own_code(run: Run, tasks: Tasker) -> None:
    assert tasks.task
    assert run("dlq", "show", "4").code == 3
    assert run("dlq", "list", "--cursor", "x").code == 2
    assert run("dlq", "list", "--cursor", "9" * 40, "-o", "json").json["items"] == []
    assert run("dlq", "list", "--reason", "tired").code == 2
    assert run("step", "park", f"{UNKNOWN}/charge").code == 3
