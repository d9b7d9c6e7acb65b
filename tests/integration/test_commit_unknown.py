"""A connection breaks at the worst moment of a call: the call is repeated, and nothing happens twice."""

from __future__ import annotations

import pytest

from tasker.db import connect, functions
from tasker.orchestration.advance import finish
from tasker.orchestration.engine import Engine
from tests.faults.proxy import Cut
from tests.integration.engine import HandPlayedWorker, complete, states, steps, submit, wired

KEEP = {"queue": "shop", "budget_ms": 50, "max": 64}


def moves_made_twice(engine: Engine) -> list[tuple[str, str]]:
    """What the log has more than once."""
    query = """
        select s.name, t.from_state || ' > ' || t.to_state
        from tasker.transitions t
        join tasker.steps s on s.id = t.step_id
        group by 1, 2
        having count(*) > 1
    """
    return engine.database.call(lambda own: own.execute(query).fetchall())


@pytest.mark.parametrize("where", [Cut.BEFORE, Cut.UNCOMMITTED, Cut.AFTER], ids=lambda cut: cut.name.lower())
def test_every_move_is_made_once_and_answered_wherever_its_connection_breaks(
    database_url: str, redis_url: str, where: Cut
) -> None:
    with wired(database_url, redis_url) as (proxy, engine):
        worker = HandPlayedWorker(engine)
        cuts = [proxy.plan("submit_tasks", where)]
        task, roots = submit(engine, *steps("a"), *steps("b", "c", after="a"))
        cuts.append(proxy.plan("claim_steps", where))
        (a,) = worker.claim(roots)
        cuts.append(proxy.plan("finish_steps", where))
        (b,) = finish(engine, [complete(a)], worker.id, KEEP)
        cuts.append(proxy.plan("release_steps", where))
        engine.run(functions.release_steps, [b.id], b.claim)

        assert all(cut.happened.is_set() for cut in cuts)
        assert (a.attempt, b.attempt) == (1, 1)
        assert states(engine, task) == {"": "in_progress", "a": "complete", "b": "enqueued", "c": "enqueued"}
        assert moves_made_twice(engine) == []
        sound = "select * from tasker.invariant_violations()"
        assert engine.database.call(lambda own: own.execute(sound).fetchall()) == []


def test_an_answer_that_never_comes_ends_like_a_broken_connection(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "REPLY_GRACE_SECONDS", 0.1)
    with wired(database_url, redis_url, statement_timeout_seconds=0.2) as (proxy, engine):
        worker = HandPlayedWorker(engine)
        task, roots = submit(engine, *steps("a"), *steps("b", after="a"))
        (a,) = worker.claim(roots)
        swallowed = proxy.plan("finish_steps", Cut.SILENCE)
        (b,) = finish(engine, [complete(a)], worker.id, KEEP)
        assert swallowed.happened.is_set()
        assert b.attempt == 1
        assert states(engine, task) == {"": "in_progress", "a": "complete", "b": "in_progress"}
