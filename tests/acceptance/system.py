"""A whole system for the acceptance tests: real servers, real workers in processes of their own, a client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeAlias
from uuid import UUID

import psycopg
import pytest

from tasker import Task, Tasker, WaitTimeout
from tasker.orchestration import operate
from tasker.settings import load_settings
from tests.conftest import redis_client_of
from tests.rabbitmq import purge

ROOT = Path(__file__).resolve().parents[2]
APPS = "tests.acceptance.apps"
PATIENCE_SECONDS = 30.0

THRESHOLDS = {
    # setting: (here, the default that it stands for)
    "coordinator_seconds": (0.05, 0.5),
}
"""How long a retry that is due waits at most. How it works does not depend on that."""

RECOVERY_THRESHOLDS = {
    **THRESHOLDS,
    "recovery_seconds": (0.1, 1),
    "heartbeat_seconds": (0.2, 3),
    "silence_seconds": (2, 12),
    "child_poll_seconds": (0.1, 0.5),
    "lost_message_seconds": (0.5, 5),
}
"""The times after which something counts as lost, for tests that lose it."""

Thresholds: TypeAlias = Mapping[str, tuple[float, float]]


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once `condition` holds; fail when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def empty(broker_url: str) -> None:
    """Drop every message of a broker, or of the part of it that the URL names."""
    if broker_url.startswith("amqp"):
        purge(broker_url)
        return
    with redis_client_of(broker_url) as client:
        client.flushdb()


class Worker:
    """A worker's main process and whatever it has started; `log` has its output."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill_group(self) -> None:
        """kill -9 of the main process and its children at once."""
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)


class System:
    """A database and a broker with a client; `worker` adds workers."""

    def __init__(
        self, database_url: str, broker_url: str, folder: Path, thresholds: Thresholds = THRESHOLDS
    ) -> None:
        self.database_url = database_url
        self.broker_url = broker_url
        self.folder = folder
        self._thresholds = {f"TASKER_{name.upper()}": str(here) for name, (here, _) in thresholds.items()}
        self._workers = 0
        self._open = ExitStack()
        settings = load_settings(database_url=database_url, broker_url=broker_url, data_dir=folder)
        self.tasker = Tasker(settings)
        self._open.callback(self.tasker.close)
        self.reconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def reconnect(self) -> None:
        """Look at the database through a new connection: the server of the old one is gone."""
        # never prepared: it may lead through a pooler
        connection = psycopg.connect(self.database_url, autocommit=True, prepare_threshold=None)
        self._connection = self._open.enter_context(connection)

    def variables(self) -> dict[str, str]:
        """The environment of processes that belong to this system."""
        return {
            **os.environ,
            **self._thresholds,
            "TASKER_DATABASE_URL": self.database_url,
            "TASKER_BROKER_URL": self.broker_url,
            "TASKER_TEST_FOLDER": str(self.folder),
            "PYTHONPATH": str(ROOT),
        }

    @contextmanager
    def worker(
        self,
        app: str,
        *options: str,
        command: Sequence[str] = ("tasker",),
        cwd: Path = ROOT,
        **variables: str,
    ) -> Iterator[Worker]:
        """A worker of the module `app`, killed at the end of the block; it may still be starting."""
        self._workers += 1
        log = self.folder / f"worker-{self._workers}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, "-A", app, "worker", *options],
                cwd=cwd,
                env=self.variables() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, log)
        try:
            yield worker
        finally:
            if process.poll() is None:
                worker.kill_group()

    def ready(self, worker: Worker) -> Worker:
        """Wait until a worker has registered, and so stored its templates; fails with its log."""
        query = "select count(*) from tasker.workers where pid = %s and kind = 'main' and stopped_at is null"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.one(query, worker.pid):
            ended = worker.process.poll()
            assert ended is None, f"the worker ended with {ended}:\n{worker.log.read_text()}"
            assert time.monotonic() < deadline, f"the worker is not ready:\n{worker.log.read_text()}"
            time.sleep(0.02)
        return worker

    def empty_broker(self) -> None:
        """Drop every message there is."""
        empty(self.broker_url)

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """The rows of a query."""
        return self._connection.execute(query.encode(), arguments).fetchall()

    def one(self, query: str, *arguments: object) -> Any:
        """The only value of a query."""
        ((value,),) = self.rows(query, *arguments)
        return value

    def submit(self, template: str, context: dict[str, Any] | None = None) -> Task:
        return self.tasker.submit(template, context)

    def settled(self, task: Task) -> str:
        """The state in which a task settles; fails with what it waits for and the workers' logs."""
        try:
            return task.wait(timeout=PATIENCE_SECONDS).state
        except WaitTimeout:
            logs = (f"{log.name}:\n{log.read_text()}" for log in self.folder.glob("worker-*.log"))
            pytest.fail("\n".join((f"task {task.id} is not settled", *task.why(), *logs)))

    def retry(self, task: Task) -> None:
        """What `tasker task retry` does."""
        operate.retry_task(self.tasker.engine, task.id, actor=None, reason=None)

    def states(self, task: UUID) -> dict[str, str]:
        """The states of a task's steps."""
        return dict(self.rows("select name, state from tasker.steps where task_id = %s", task))

    def failures(self, task: UUID) -> dict[str, int]:
        """How often each step of a task has failed."""
        return dict(self.rows("select name, failures from tasker.steps where task_id = %s", task))

    def violations(self) -> list[Any]:
        """What the database finds wrong with itself."""
        return self.rows("select * from tasker.invariant_violations()")
