"""A main process's watch over its children: who vanished is missed, who lives is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tasker.db import functions
from tasker.orchestration.engine import Engine
from tasker.worker.children import Children
from tasker.worker.identity import Identity
from tasker.worker.leaving import Leaving
from tests.integration.engine import HANDLER, QUEUE, HandPlayedWorker, engine_on, states, steps, submit


@dataclass
class Process:
    """As a pool lists it."""

    pid: int | None


@dataclass
class Pool:
    """As Celery holds it: its processes lie two levels down, and may change at any time."""

    _pool: object = field(init=False)

    def __post_init__(self) -> None:
        self.processes: list[Process] = []
        self._pool = type("Inner", (), {"_pool": self.processes})
        self.maintained = threading.Event()


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url) as engine:
        yield engine


@pytest.fixture
def identity(engine: Engine) -> Identity:
    return Identity(engine.database, "main", [QUEUE], [HANDLER])


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def children(engine: Engine, identity: Identity, pool: Pool) -> Children:
    return Children(pool, pool.maintained.set, engine, engine.database, identity, leaving=Leaving())


class Child(HandPlayedWorker):
    """A row of a child with this process id."""

    def __init__(self, engine: Engine, identity: Identity, pid: int) -> None:
        self.engine = engine
        register, own = functions.register_worker, identity.instance
        self.id = engine.database.call(register, identity.worker(), "child", own, identity.host, pid, [], [])


@pytest.fixture
def dead_pid() -> int:
    """Of a process that has been."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def stopped(engine: Engine) -> list[int]:
    """The workers stopped."""
    query = "select id from tasker.workers where stopped_at is not null order by id"
    return engine.database.call(lambda own: [row[0] for row in own.execute(query)])


def test_the_steps_of_a_child_that_vanished_between_two_looks_are_taken_back(
    engine: Engine, identity: Identity, pool: Pool, children: Children, dead_pid: int
) -> None:
    pool.processes += [Process(os.getpid())]
    living, dead = Child(engine, identity, os.getpid()), Child(engine, identity, dead_pid)
    task, ids = submit(engine, *steps("kept", "lost"))
    living.claim(ids[:1])
    dead.claim(ids[1:])
    children.look()
    assert stopped(engine) == [dead.id]
    assert states(engine, task) == {"": "in_progress", "kept": "in_progress", "lost": "enqueued"}
    children.look()
    assert stopped(engine) == [dead.id]


def test_a_child_that_nobody_has_waited_for_is_missed_and_replaced(
    engine: Engine, identity: Identity, pool: Pool, children: Children
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pool.processes += [Process(process.pid)]
        dead = Child(engine, identity, process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        children.look()
        assert stopped(engine) == [dead.id]
        assert pool.maintained.is_set()
        assert process.returncode is None, "it is for the pool to wait for it"


def test_a_process_that_is_being_started_has_no_pid_and_disturbs_nothing(
    engine: Engine, identity: Identity, pool: Pool, children: Children, dead_pid: int
) -> None:
    pool.processes += [Process(None), Process(os.getpid())]
    living, dead = Child(engine, identity, os.getpid()), Child(engine, identity, dead_pid)
    children.look()
    assert stopped(engine) == [dead.id] != [living.id]


def test_a_child_heard_of_before_its_pool_knows_it_is_left_alone(
    engine: Engine, identity: Identity, pool: Pool, children: Children
) -> None:
    Child(engine, identity, os.getpid())
    children.look()
    pool.processes += [Process(os.getpid())]
    children.look()
    pool.processes.clear()
    children.look()
    assert stopped(engine) == []


def test_a_pid_that_a_stranger_took_over_does_not_keep_a_dead_child_alive(
    engine: Engine, identity: Identity, children: Children
) -> None:
    child = Child(engine, identity, os.getppid())
    children.look()
    children.look()
    assert stopped(engine) == [child.id]


def test_the_watch_survives_what_a_look_raises(
    engine: Engine, identity: Identity, children: Children, pool: Pool, dead_pid: int
) -> None:
    dead, seen, stop = Child(engine, identity, dead_pid), threading.Event(), threading.Event()
    inner, looks = pool._pool, 0

    class Broken:
        @property
        def _pool(self) -> object:
            nonlocal looks
            looks += 1
            if looks < 3:
                raise ValueError("the pool is being restarted")
            seen.set()
            return inner

    children._pool = Broken()
    watch = threading.Thread(target=children.run, args=(0.01, stop))
    watch.start()
    assert seen.wait(10)
    stop.set()
    watch.join()
    assert stopped(engine) == [dead.id]


def test_a_pool_that_was_taken_down_is_looked_at_no_more(
    engine: Engine, identity: Identity, children: Children, pool: Pool, dead_pid: int
) -> None:
    Child(engine, identity, dead_pid)
    pool._pool = None
    children.look()
    assert stopped(engine) == [], "whoever takes the pool down says what became of its children"
