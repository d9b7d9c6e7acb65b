"""`tasker step list` and `task show` for tasks with more steps than anybody wants to see at once."""

from __future__ import annotations

from tasker.cli.options import MOST_LISTED
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration.client import Tasker
from tasker.orchestration.templates import store
from tests.integration.cli.typed import STORED, TASK_KEYS, Run

STEPS = MOST_LISTED + 200
NAMES = [f"step_{number}" for number in range(STEPS)]


def large(tasks: Tasker) -> str:
    """The id of a task with more steps than a page holds."""
    steps = tuple(StepDefinition(name, "tests/work") for name in NAMES)
    store(tasks.database, TemplateDefinition("tests", "large", "1.0.0", steps), "celery")
    return str(tasks.submit("tests/large").id)


def test_the_steps_of_a_task_are_listed_page_by_page(run: Run, tasks: Tasker) -> None:
    task = str(tasks.submit(STORED).id)
    first = run("step", "list", task, "--limit", "3", "-o", "json").json
    rest = run("step", "list", task, "--cursor", first["next_cursor"], "-o", "json").json
    assert [len(page["items"]) for page in (first, rest)] == [3, 1]
    assert rest["next_cursor"] is None
    assert [step["name"] for step in first["items"]] == ["validate", "reserve", "charge"]
    told = run("step", "list", task, "--limit", "3")
    assert (len(told.out.splitlines()), told.err) == (4, "there are more: --cursor 2\n")
    wrong = run("step", "list", task, "--cursor", "x")
    assert (wrong.code, wrong.out) == (2, "")


def test_a_large_task_is_shown_in_part_to_people_and_whole_as_json(run: Run, tasks: Tasker) -> None:
    task = large(tasks)
    shown = run("task", "show", task)
    assert [line.split()[0] for line in shown.out.splitlines()[-MOST_LISTED:]] == NAMES[:MOST_LISTED]
    assert shown.err == f"200 more steps: `tasker step list {task} --cursor {MOST_LISTED - 1}`\n"
    whole = run("task", "show", task, "-o", "json").json
    assert list(whole) == TASK_KEYS
    assert [step["name"] for step in whole["steps"]] == NAMES
