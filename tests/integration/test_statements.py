"""How many statements a worker sends for each step: the count, which no busy machine changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasker.db import functions
from tasker.db.engine import Database
from tasker.orchestration.engine import Engine
from tasker.worker import registry
from tasker.worker.identity import Identity
from tasker.worker.leaving import Leaving
from tasker.worker.runner import Runner
from tasker.worker.watchdog import Watchdog
from tests.integration.engine import HANDLER, QUEUE, engine_on, states, steps, submit

ON_CHAINS = 1.2
IN_BULK = 0.1
"""At most so many statements for a step."""

CHAIN = tuple(
    step for number in range(6) for step in steps(f"s{number}", after=f"s{number - 1}" if number else None)
)


@pytest.fixture
def engine(database_url: str, redis_url: str) -> Iterator[Engine]:
    with engine_on(database_url, redis_url) as engine:
        yield engine


@pytest.fixture
def statements_of_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], int]:
    """What a worker sends for one message of these steps, whose handler is known to be quick."""
    # it reports how long handlers take once in ten seconds, whatever runs
    monkeypatch.setattr(Watchdog, "measured", lambda *_: None)
    monkeypatch.setattr(registry, "process", registry.Registry())
    registry.process.add_handler(HANDLER, work)
    engine.database.call(functions.record_expectations, {HANDLER: 0.1})
    identity = Identity(engine.database, "main", [QUEUE], [HANDLER])
    identity.worker()
    runner = Runner(engine, identity, Leaving(), may_die=False)

    def counted(ids: list[int]) -> int:
        sent = []
        call = Database.call

        def counting(self: Database, function: Any, *args: Any, **kwargs: Any) -> Any:
            sent.append(function)
            return call(self, function, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Database, "call", counting)
            runner.run(ids, QUEUE)
        return len(sent)

    return counted


def work() -> int:
    return 1


def test_a_chain_that_runs_alone_costs_a_statement_for_each_step_and_one_more(
    engine: Engine, statements_of_run: Callable[[list[int]], int]
) -> None:
    task, ids = submit(engine, *CHAIN)
    sent = statements_of_run(ids)
    assert states(engine, task)[""] == "complete"
    assert sent == len(CHAIN) + 1
    assert sent / len(CHAIN) <= ON_CHAINS


def test_chains_that_travel_together_share_their_statements(
    engine: Engine, statements_of_run: Callable[[list[int]], int]
) -> None:
    tasks = [submit(engine, *CHAIN) for _ in range(32)]
    sent = statements_of_run([step for _, ids in tasks for step in ids])
    assert {states(engine, task)[""] for task, _ in tasks} == {"complete"}
    assert sent == len(CHAIN) + 1
    assert sent / (len(tasks) * len(CHAIN)) <= IN_BULK
