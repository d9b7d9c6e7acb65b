"""A system to be broken: its own database and Redis, each behind a wire that can be cut."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis

from tasker import Task, Tasker
from tasker.dev.redis import start_redis
from tasker.settings import load_settings
from tests.acceptance.effects import effects
from tests.acceptance.system import APPS, RECOVERY_THRESHOLDS, ROOT, System, Thresholds, Worker, eventually
from tests.conftest import redis_client_of
from tests.faults.proxy import postgres_proxy, redis_proxy

LEDGER = f"{APPS}.ledger"
QUEUE = "celery"
FAN_TASKS = 6
FAN_STEPS = 8


class Stand(System):
    """A system whose workers reach PostgreSQL and Redis through proxies; its own client goes straight."""

    def __init__(
        self, database_url: str, folder: Path, seed: int, thresholds: Thresholds = RECOVERY_THRESHOLDS
    ) -> None:
        self.random = random.Random(seed)  # noqa: S311 - to be replayed, not to be guessed
        self._coordinators = 0
        self._wires = ExitStack()
        self._redis_folder = folder / "redis"
        self._redis = self._wires.enter_context(ExitStack())
        broker_url = self._redis.enter_context(start_redis(self._redis_folder, durable=False))
        # sockets have short names: pytest's own folders are too deep
        sockets = Path(self._wires.enter_context(tempfile.TemporaryDirectory(prefix="tasker-wire-")))
        self.wired_database, self.database = self._wires.enter_context(postgres_proxy(database_url, sockets))
        self.wired_broker, self.broker = self._wires.enter_context(redis_proxy(broker_url, sockets))
        super().__init__(database_url, broker_url, folder, thresholds)

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._wires.close()

    def variables(self) -> dict[str, str]:
        """The environment of this system's processes: they go through the proxies."""
        wired = {"TASKER_DATABASE_URL": self.wired_database, "TASKER_BROKER_URL": self.wired_broker}
        return super().variables() | wired

    @contextmanager
    def client(self) -> Iterator[Tasker]:
        """A client that goes through the proxies."""
        settings = load_settings(
            database_url=self.wired_database, broker_url=self.wired_broker, data_dir=self.folder
        )
        tasker = Tasker(settings)
        yield tasker
        tasker.close()

    @contextmanager
    def running(self, app: str = LEDGER, *options: str, faults: str = "", **more: str) -> Iterator[Worker]:
        """A worker that is ready, with these faults armed; of two processes unless `options` say more."""
        options = options or ("--concurrency", "2")
        with self.worker(app, *options, TASKER_FAULTS=faults, **more) as worker:
            yield self.ready(worker)

    @contextmanager
    def coordinator(self, faults: str = "") -> Iterator[Worker]:
        """`tasker coordinator`, registered."""
        self._coordinators += 1
        log = self.folder / f"coordinator-{self._coordinators}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tasker", "coordinator"],
                env=self.variables() | {"TASKER_FAULTS": faults},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            query = "select count(*) from tasker.workers where pid = %s and kind = 'coordinator'"
            eventually(lambda: self.one(query, process.pid), "the coordinator has registered")
            yield Worker(process, log)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def register(self, app: str = LEDGER) -> None:
        """Store an application's templates without running a worker."""
        command = [sys.executable, "-m", "tasker", "-A", app, "template", "register"]
        subprocess.run(command, cwd=ROOT, env=self.variables(), check=True, capture_output=True)

    def execute(self, statement: str) -> None:
        """A statement on a connection of its own."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def fans(self, tasks: int = FAN_TASKS) -> list[Task]:
        """Submit tasks of one root, six branches and a join; each step takes 20 ms."""
        return self.tasker.submit_many([("ledger/fan", None)] * tasks)

    def redis(self) -> redis.Redis:
        """A client that goes straight to the broker."""
        return redis_client_of(self.broker_url)

    def restart_redis(self, while_down: Callable[[], object] = lambda: None) -> None:
        """End Redis without saving and start it empty."""
        self._redis.close()
        while_down()
        self._redis.enter_context(start_redis(self._redis_folder, durable=False))

    def await_effects(self, count: int = FAN_STEPS) -> None:
        """Wait until so many steps have had their effect."""
        eventually(lambda: sum(effects(self).values()) >= count, f"{count} steps have had an effect")

    def await_fault(self, worker: Worker) -> None:
        """Wait until the armed fault of a worker has struck."""
        eventually(lambda: b"fault: " in worker.log.read_bytes(), "the fault strikes")

    def attempts(self, tasks: Sequence[Task]) -> dict[str, int]:
        """How many attempts ended in which way; `open` are those that have not."""
        query = """
            select coalesce(outcome, 'open'), count(*)
            from tasker.step_attempts a join tasker.steps s on s.id = a.step_id
            where s.task_id = any(%s)
            group by 1
        """
        return dict(self.rows(query, [task.id for task in tasks]))

    def await_state(self, task: Task, step: str, state: str) -> None:
        """Wait until a step is in a state."""
        eventually(lambda: self.states(task.id).get(step) == state, f"{step} is {state}")

    def losses(self) -> int:
        """How often steps were charged for the loss of their worker."""
        return int(self.one("select coalesce(sum(losses), 0) from tasker.steps"))

    def stopped(self) -> list[str]:
        """Why workers were stopped that have been."""
        query = "select stopped_because from tasker.workers where stopped_at is not null"
        return [why for (why,) in self.rows(query)]

    def taken_for_dead(self) -> set[int]:
        """Process ids of those that were stopped because they were silent."""
        return {
            pid for (pid,) in self.rows("select pid from tasker.workers where stopped_because = 'silent'")
        }

    def step_ids(self, task: Task) -> list[int]:
        """The ids of a task's steps, in the template's order."""
        query = "select id from tasker.steps where task_id = %s order by id"
        return [step for (step,) in self.rows(query, task.id)]

    def children(self, worker: Worker) -> list[int]:
        """Process ids of a worker's children that have registered."""
        query = """
            select c.pid from tasker.workers c join tasker.workers m on m.id = c.parent_id
            where m.pid = %s and c.stopped_at is null
        """
        return [pid for (pid,) in self.rows(query, worker.pid)]

    def runners(self, worker: Worker) -> list[int]:
        """Processes of a worker that run a step just now."""
        query = """
            select own.pid
            from tasker.step_attempts a
            join tasker.workers own on own.id = a.worker_id
            left join tasker.workers main on main.id = own.parent_id
            where a.finished_at is null and coalesce(main.pid, own.pid) = %s
        """
        return [pid for (pid,) in self.rows(query, worker.pid)]

    def a_runner(self, worker: Worker) -> int:
        """A process of a worker that runs a step just now, waited for."""
        found: list[int] = []

        def runs() -> bool:
            found[:] = self.runners(worker)
            return bool(found)

        eventually(runs, "the worker runs a step")
        return self.random.choice(found)

    def messages(self, queue: str = QUEUE) -> list[bytes]:
        """The messages that wait in a queue."""
        with self.redis() as client:
            return list(client.lrange(queue, 0, -1))

    def send(self, ids: object, queue: str = QUEUE, **keywords: Any) -> None:
        """A message made by hand, in the name of the product."""
        self.tasker.celery.send_task("tasker.run_steps", (ids,), {"queue": queue} | keywords, queue=queue)

    def forge(self, body: bytes, queue: str = QUEUE) -> None:
        """Put raw bytes where a message should be."""
        with self.redis() as client:
            client.lpush(queue, body)


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """SIGSTOP for the length of the block, then SIGCONT."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def copy_of(message: bytes) -> bytes:
    """The message again under another delivery tag, as a doubled publish makes it."""
    envelope = json.loads(message)
    envelope["properties"]["delivery_tag"] = os.urandom(8).hex()
    return json.dumps(envelope).encode()
