"""`tasker task` while nobody works on the tasks, and what a terminal shows."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasker.orchestration import operate
from tasker.orchestration.client import Tasker
from tests.integration.cli.typed import SECONDS, STORED, TASK_KEYS, UNKNOWN, Run, write


def test_submit_prints_an_id_and_tells_a_repeated_key_from_a_conflicting_one(
    run: Run, tasks: Tasker, tmp_path: Path
) -> None:
    write(tmp_path / "order.json", '{"amount": 3}')
    first = run("task", "submit", STORED, "--context", "@order.json", "--idempotency-key", "order-1")
    assert first.code == 0
    again = run(
        "task",
        "submit",
        STORED,
        "-c",
        "-",
        "--idempotency-key",
        "order-1",
        "-o",
        "json",
        input='{"amount":3}',
    )
    assert again.json["task_id"] == first.out.strip()
    assert again.json["created"] is False
    assert list(again.json) == TASK_KEYS
    assert again.json["steps"][0] == {
        "name": "validate",
        "state": "enqueued",
        "attempt": 0,
        "result": None,
        "error": None,
    }
    other = run("task", "submit", STORED, "-c", '{"amount": 4}', "--idempotency-key", "order-1")
    assert (other.code, other.out) == (4, "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "the text is not JSON: "),
        ("[1]", "the text must be a JSON object"),
        ("@nowhere.json", "nowhere.json cannot be read: No such file or directory"),
    ],
)
def test_a_context_that_is_no_json_object_is_a_mistake_in_the_command(
    run: Run, given: str, said: str
) -> None:
    ended = run("task", "submit", "orders/fulfilment", "--context", given)
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task", "submit", STORED, "--idempotency-key", ""], "idempotency_key: must not be empty"),
        (
            ["task", "submit", STORED, "--idempotency-key", "k" * 256],
            "idempotency_key: 256 characters are over",
        ),
        (["task", "submit", "Orders"], 'template: "Orders" names none'),
        (["task", "list", "--template", "Orders"], 'template: "Orders" names none'),
        (["template", "show", "a/b/c"], 'template: "a/b/c" names none'),
        (["task", "list", "--cursor", "x"], '"x" is not the cursor of a list'),
    ],
)
def test_a_value_that_cannot_be_taken_is_a_mistake_in_the_command(
    run: Run, arguments: list[str], said: str
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {said}")


def test_what_does_not_exist_is_exit_code_3(run: Run) -> None:
    for arguments in (
        ["task", "show", UNKNOWN],
        ["step", "show", f"{UNKNOWN}/charge"],
        ["task", "submit", "no/such"],
    ):
        ended = run(*arguments)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith("error: no ")


def test_a_template_that_is_not_there_is_answered_with_the_nearest(run: Run, tasks: Tasker) -> None:
    ended = run("task", "submit", "orders/fulfilmnt")
    assert ended.code == 3
    assert ended.err.startswith(
        'error: no template orders/fulfilmnt; did you mean "orders/fulfilment"?; see '
    )


def test_a_cancelled_task_is_listed_with_what_was_done_of_it(run: Run, tasks: Tasker) -> None:
    tasks.submit(STORED).cancel()
    ((_, _, state, done, *_),) = [line.split() for line in run("task", "list").out.splitlines()[1:]]
    assert (state, done) == ("cancelled", "0/4")


def test_an_error_is_whole_in_a_pipe_and_cut_on_a_terminal_with_a_hint(
    run: Run, environment: dict[str, str], tasks: Tasker, tmp_path: Path
) -> None:
    task = tasks.submit(STORED)
    step = task.steps()[0]
    wrong = "the price list of yesterday was used, and with it half of the orders were charged"
    operate.park_steps(tasks.engine, [step.id], actor="ann", reason=wrong)
    piped = run("task", "show", str(task.id))
    assert wrong in piped.out
    assert piped.err == f"`tasker task why {task.id}` says what to do about what failed\n"
    for arguments in (["task", "show", str(task.id)], ["step", "list", str(task.id)]):
        errors: list[str] = []
        shown = on_terminal(environment, tmp_path, *arguments, errors=errors)
        assert "the price list of yesterday was" in " ".join(shown.split())
        assert "charged" not in shown
        assert f"`tasker step show {task.id}/validate` prints what is cut here\n" in "".join(errors)


def test_waiting_too_long_and_waiting_for_a_cancelled_task_have_their_own_exit_codes(
    run: Run, tasks: Tasker, connection: psycopg.Connection[Any]
) -> None:
    task = str(tasks.submit(STORED).id)
    late = run("task", "wait", task, "--timeout", "0.05s")
    assert late.code == 124
    assert f"`tasker task why {task}`" in late.err
    why = run("task", "why", task).out
    assert "no live worker serves that queue" in why
    assert "ship waits for its parents: reserve (pending), charge (pending)" in why
    reason = run("task", "cancel", task, "--reason", "ordered twice", "-o", "json")
    assert reason.json == {"task_id": task, "state": "cancelled"}
    waited = run("task", "wait", task, "-o", "json")
    assert (waited.code, waited.json["state"], list(waited.json)) == (11, "cancelled", TASK_KEYS)
    assert run("task", "retry", task).code == 4
    log = connection.execute("select actor, reason from tasker.transitions where to_state = 'cancelled'")
    assert {(actor.partition("@")[0], why) for actor, why in log} == {("ann", "ordered twice")}


def test_tasks_are_listed_by_what_they_are_page_by_page(run: Run, tasks: Tasker) -> None:
    for tag in ("red", "red", "blue"):
        tasks.submit(STORED, tags=[tag])
    assert run("task", "submit", STORED, "--run-after", "1h", "--tag", "red").code == 0
    first = run("task", "list", "--tag", "red", "--limit", "2", "-o", "json").json
    rest = run("task", "list", "--tag", "red", "--cursor", first["next_cursor"], "-o", "json").json
    assert [item["state"] for item in first["items"] + rest["items"]] == [
        "pending",
        "in_progress",
        "in_progress",
    ]
    assert rest["next_cursor"] is None
    lines = run(
        "task", "list", "--state", "in_progress", "--since", "5m", "--template", STORED
    ).out.splitlines()
    assert lines[0].split() == ["TASK", "TEMPLATE", "STATE", "DONE", "CREATED", "TAGS"]
    assert [line.split()[-1] for line in lines[1:]] == ["blue", "red", "red"]
    assert all(len(line.split()[0]) == len(UNKNOWN) for line in lines[1:])


def test_a_terminal_shows_signs_and_colours_and_a_pipe_shows_neither(
    run: Run, environment: dict[str, str], tasks: Tasker, tmp_path: Path
) -> None:
    task = str(tasks.submit(STORED).id)
    coloured = on_terminal(environment, tmp_path, "task", "graph", task)
    assert "validate    \x1b[36m◔ enqueued\x1b[0m" in coloured
    assert "└─ ship" in coloured
    listed = on_terminal({**environment, "COLUMNS": "40"}, tmp_path, "task", "list")
    assert task in listed
    plain = on_terminal({**environment, "NO_COLOR": "1"}, tmp_path, "task", "graph", task)
    assert "validate    ◔ enqueued" in plain
    assert "\x1b" not in run("task", "show", task).out


def on_terminal(
    environment: dict[str, str], folder: Path, *arguments: str, errors: list[str] | None = None
) -> str:
    """What `tasker` prints when standard output is a terminal; `errors` gets what it says beside."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tasker", *arguments],
        cwd=folder,
        env={**environment, "TERM": "xterm-256color"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # how the end of a terminal looks from here
            while chunk := os.read(ours, 4096):
                written += chunk
        os.close(ours)
        if errors is not None and process.stderr:
            errors.append(process.stderr.read().decode())
        assert process.wait(SECONDS) == 0
    return written.decode().replace("\r\n", "\n")
