"""How long a worker goes on with a task, and that a slow handler holds nothing up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasker import StepContext
from tasker.db import functions
from tasker.orchestration.engine import Engine
from tasker.worker import registry
from tasker.worker.identity import Identity
from tasker.worker.leaving import Leaving
from tasker.worker.runner import Runner
from tasker.worker.watchdog import Watchdog
from tests.integration.engine import HANDLER, QUEUE, engine_on, states, steps, submit

STEP_SECONDS = 0.02
CONTINUATION_MS = 100
"""Stands for the default of 250 ms, and a step for one of 50 ms."""

LONG_SECONDS = 30


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url, continuation_ms=CONTINUATION_MS) as engine:
        yield engine


@pytest.fixture
def runner_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], Runner]:
    """A worker of its own for each call, with this handler."""
    # reported seconds later, when the test and its database are gone
    monkeypatch.setattr(Watchdog, "measured", lambda *_: None)

    def made(handler: Callable[..., object]) -> Runner:
        monkeypatch.setattr(registry, "process", registry.Registry())
        registry.process.add_handler(HANDLER, handler)
        return Runner(engine, Identity(engine.database, "main", [QUEUE], [HANDLER]), Leaving(), may_die=False)

    return made


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_worker_goes_on_along_a_chain_for_its_time_and_leaves_the_rest_to_the_queue(
    engine: Engine, runner_of: Callable[..., Runner]
) -> None:
    def work() -> None:
        time.sleep(STEP_SECONDS)

    names = [f"s{number}" for number in range(20)]
    chain = [
        step
        for name, before in zip(names, [None, *names], strict=False)
        for step in steps(name, after=before)
    ]
    task, ids = submit(engine, *chain)
    engine.database.call(functions.record_expectations, {HANDLER: STEP_SECONDS * 1000})
    runner_of(work).run(ids, QUEUE)
    found = [states(engine, task)[name] for name in names]
    done = found.count("complete")
    assert 2 <= done <= 1 + CONTINUATION_MS / 1000 / STEP_SECONDS
    assert found == ["complete"] * done + ["enqueued"] + ["pending"] * (len(names) - done - 1)


def test_a_slow_step_holds_up_neither_the_record_of_those_before_it_nor_the_start_of_those_behind_it(
    engine: Engine, runner_of: Callable[..., Runner]
) -> None:
    end = threading.Event()

    def work(step: StepContext) -> None:
        if step.name == "slow":
            assert end.wait(LONG_SECONDS)

    task, ids = submit(engine, *steps("first", "slow", "third", "fourth"))
    one, other = runner_of(work), runner_of(work)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(one.run, ids, QUEUE)
        try:
            eventually(lambda: states(engine, task)["first"] == "complete")
            assert states(engine, task)["slow"] == "in_progress"
            eventually(lambda: states(engine, task)["third"] == "enqueued")
            other.run(ids[2:], QUEUE)
            found = states(engine, task)
            assert [found[name] for name in ("slow", "third", "fourth")] == [
                "in_progress",
                "complete",
                "complete",
            ]
        finally:
            end.set()
        slow.result()
    assert set(states(engine, task).values()) == {"complete"}
