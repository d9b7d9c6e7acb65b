"""What a soak does to a system, one random fault after the other, and how each is healed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tasker.dev.postgres import start_postgres
from tests.acceptance.system import Worker
from tests.faults.proxy import Cut
from tests.faults.stand import Stand
from tests.processes import living

LOAD = "tests.faults.apps.load"
WORKERS = 2
HURTING = {"kill child", "kill group", "kill main", "stop and continue"}
"""The faults after which a handler may have to run again: its worker died, or was taken for dead."""
RECONNECT_SECONDS = 60.0


class Postgres:
    """A server that can be made to crash, and started on the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        # durable: what a crash may lose is what this is about
        self.url = self._running.enter_context(start_postgres(self._folder))

    def crash(self) -> None:
        """What `pg_ctl stop -m immediate` does."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            ((text,),) = connection.execute("select pg_read_file('postmaster.pid')").fetchall()
        os.kill(int(text.split()[0]), signal.SIGQUIT)
        self._running.close()

    def stop(self) -> None:
        self._running.close()


class Soaked(Stand):
    """A stand whose own connection outlives its server."""

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """The rows of a query, asked until the server answers."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                return super().rows(query, *arguments)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                with suppress(psycopg.OperationalError):
                    self.reconnect()


class Nemesis:
    """Does one fault at a time; what it has stopped or killed goes on when it is done."""

    def __init__(self, stand: Soaked, postgres: Postgres, rng: random.Random, only: str | None) -> None:
        self._stand = stand
        self._postgres = postgres
        self._random = rng
        self._workers: list[tuple[ExitStack, Worker]] = []
        self._coordinator: tuple[ExitStack, Worker] | None = None
        self.done: Counter[str] = Counter()
        self.last = "none yet"
        self._faults: list[Callable[[], None]] = [
            self.kill_child,
            self.kill_child,
            self.kill_group,
            self.kill_main,
            self.stop_and_continue,
            self.flush_broker,
            self.restart_broker,
            self.crash_database,
            self.cut_database,
            self.lose_reply,
            self.cut_broker,
            self.lose_message,
            self.hold_broker,
            self.restart_coordinator,
        ]
        if only is not None:
            self._faults = [fault for fault in self._faults if fault.__name__ == only]

    @contextmanager
    def system(self) -> Iterator[None]:
        """Workers and a coordinator, for the length of the block."""
        try:
            for _ in range(WORKERS):
                self._workers.append(self._worker())
            self._coordinator = self._entered(self._stand.coordinator())
            yield
        finally:
            for stack, _ in self._workers:
                stack.close()
            if self._coordinator is not None:
                self._coordinator[0].close()

    @property
    def mains(self) -> list[Worker]:
        return [worker for _, worker in self._workers]

    def strike(self) -> None:
        """One fault, chosen at random; healed when this returns."""
        fault = self._random.choice(self._faults)
        self.last = fault.__name__.replace("_", " ")
        fault()
        self.done[self.last] += 1

    def repair(self) -> None:
        """Start again what has ended, as whoever supervises workers does."""
        for place, (stack, worker) in enumerate(self._workers):
            if worker.process.poll() is not None:
                stack.close()
                self._workers[place] = self._worker()

    def kill_child(self) -> None:
        worker = self._random.choice(self.mains)
        children = living(set(self._stand.children(worker)))
        if children:
            os.kill(self._random.choice(sorted(children)), signal.SIGKILL)

    def kill_group(self) -> None:
        self._random.choice(self.mains).kill_group()
        self.repair()

    def kill_main(self) -> None:
        worker = self._random.choice(self.mains)
        os.kill(worker.pid, signal.SIGKILL)
        worker.process.wait()
        self.repair()

    def stop_and_continue(self) -> None:
        worker = self._random.choice(self.mains)
        pids = living({worker.pid, *self._stand.children(worker)})
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(self._random.choice((1, 3, 15)))
        for pid in living(pids):
            os.kill(pid, signal.SIGCONT)

    def flush_broker(self) -> None:
        with self._stand.redis() as client:
            client.flushall()

    def restart_broker(self) -> None:
        self._stand.restart_redis(lambda: time.sleep(self._random.uniform(0, 2)))

    def crash_database(self) -> None:
        self._postgres.crash()
        time.sleep(self._random.uniform(0, 2))
        self._postgres.start()

    def cut_database(self) -> None:
        self._stand.database.cut()

    def lose_reply(self) -> None:
        function = self._random.choice(("finish_steps", "claim_steps", "release_steps", "due_steps"))
        where = self._random.choice((Cut.BEFORE, Cut.UNCOMMITTED, Cut.AFTER))
        self._stand.database.plan(f"tasker.{function}", where)

    def cut_broker(self) -> None:
        self._stand.broker.cut()

    def lose_message(self) -> None:
        self._stand.broker.plan(self._random.choice(("BRPOP", "LPUSH")), Cut.AFTER)

    def hold_broker(self) -> None:
        self._stand.broker.blackhole()
        time.sleep(2)
        self._stand.broker.heal()

    def restart_coordinator(self) -> None:
        if self._coordinator is not None:
            self._coordinator[0].close()
        self._coordinator = self._entered(self._stand.coordinator())

    def _worker(self) -> tuple[ExitStack, Worker]:
        return self._entered(self._stand.running(LOAD))

    def _entered(self, process: AbstractContextManager[Worker]) -> tuple[ExitStack, Worker]:
        stack = ExitStack()
        return stack, stack.enter_context(process)
