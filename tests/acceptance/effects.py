"""What handlers did to the world, noted outside the database under test, held against what it records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasker import Task
from tests.acceptance.system import System


def effects(system: System) -> Counter[str]:
    """How often each step has had its effect, by its idempotency key."""
    ledger = system.folder / "ledger"
    return Counter(ledger.read_text().split()) if ledger.exists() else Counter()


def assert_sound(system: System, tasks: Sequence[Task]) -> None:
    """No effect without an attempt that began, none missing from a complete step, and a sound database."""
    query = """
        select
            s.task_id || '/' || s.name, s.state, count(*) filter (where a.outcome is distinct from 'released')
        from tasker.steps s
        left join tasker.step_attempts a on a.step_id = s.id
        where s.task_id = any(%s)
        group by s.id
    """
    had = effects(system)
    odd = {
        step: (state, had[step], begun)
        for step, state, begun in system.rows(query, [task.id for task in tasks])
        if not (state == "complete") <= had[step] <= begun
    }
    assert odd == {}, "step: (state, effects, attempts that began)"
    assert system.violations() == []


def assert_settled(system: System, tasks: Sequence[Task]) -> None:
    """Every task is complete, every step had an effect, and no more of them than it had attempts."""
    assert [system.settled(task) for task in tasks] == ["complete"] * len(tasks)
    states = "select distinct state from tasker.steps where task_id = any(%s)"
    assert system.rows(states, [task.id for task in tasks]) == [("complete",)]
    assert_sound(system, tasks)
