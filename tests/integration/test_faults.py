"""Kill points: armed on purpose, in a database made for it, and otherwise nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psycopg
import pytest

from tasker import faults
from tasker.domain.errors import SettingsError
from tests.acceptance.system import ROOT

SUBMIT = """
import sys
from tasker import Tasker, TaskTemplate

template = TaskTemplate("faults/one", version="1.0.0")

@template.step
def only() -> None: ...

print(Tasker().submit(template, idempotency_key="the only one").created)
"""


def submit(database_url: str, redis_url: str, armed: str) -> subprocess.CompletedProcess[str]:
    servers = {"TASKER_DATABASE_URL": database_url, "TASKER_BROKER_URL": redis_url}
    return subprocess.run(
        [sys.executable, "-c", SUBMIT],
        env={**os.environ, **servers, "TASKER_FAULTS": armed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def tasks(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        ((count,),) = connection.execute("select count(*) from tasker.tasks")
    return int(count)


def test_a_client_killed_before_or_after_its_commit_submits_one_task_when_it_tries_again(
    database_url: str, redis_url: str
) -> None:
    # the first call is refused, for the database lacks the template; the second creates the task
    before = submit(database_url, redis_url, "before_submit_tasks:kill:2")
    assert before.returncode == -signal.SIGKILL
    assert tasks(database_url) == 0

    after = submit(database_url, redis_url, "after_submit_tasks:kill")
    assert after.returncode == -signal.SIGKILL
    assert tasks(database_url) == 1

    again = submit(database_url, redis_url, "")
    assert again.stdout == "False\n", again.stderr
    assert tasks(database_url) == 1


def test_no_fault_is_armed_in_a_database_that_is_not_marked_as_a_test_s(
    database_url: str, redis_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("comment on schema tasker is null")
    refused = submit(database_url, redis_url, "after_submit_tasks:kill")
    assert refused.returncode == 1
    assert "SettingsError" in refused.stderr
    assert "unset TASKER_FAULTS" in refused.stderr
    assert tasks(database_url) == 0


@pytest.mark.parametrize("text", ["after_keep", "after_keep:explode", "after_keep:kill:0", ","])
def test_faults_that_cannot_be_read_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TASKER_FAULTS", text)
    with pytest.raises(SettingsError, match="TASKER_FAULTS"):
        faults.arm(lambda: True)
