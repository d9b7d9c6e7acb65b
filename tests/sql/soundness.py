"""What must hold in a database after any call: each query returns what violates it.

Written against the edges and the log alone, so that it does not share a mistake with the functions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import psycopg

from tasker.domain.states import ACTIVE, OPEN, SATISFYING, STEP_MOVES, TASK_MOVES, TASK_SETTLED

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

FIRST_STATES = {"steps": {"pending", "waiting", "ready", "enqueued"}, "tasks": {"pending", "in_progress"}}

RULES = {
    "the log of a step or task is one unbroken chain": """
        select task_id, step_id, seq, before, from_state, to_state
        from (select *, lag(to_state) over (partition by task_id, step_id order by seq) as before
              from tasker.transitions) t
        where from_state is distinct from before
          and not (before is null and step_id is not null and from_state = 'pending')""",
    "a step is in the state that its log ends with": """
        select s.id, s.name, s.state, t.to_state
        from tasker.steps s
        left join lateral (select to_state from tasker.transitions
                           where step_id = s.id order by seq desc limit 1) t on true
        where s.state <> coalesce(t.to_state, 'pending')""",
    "a task is in the state that its log ends with": """
        select k.id, k.state, t.to_state
        from tasker.tasks k
        left join lateral (select to_state from tasker.transitions
                           where task_id = k.id and step_id is null order by seq desc limit 1) t on true
        where k.state is distinct from t.to_state""",
    "parents_left of a pending step counts its open parents": """
        select s.id, s.name, s.parents_left, count(p.id) as open
        from tasker.steps s
        left join tasker.step_edges e on e.child_id = s.id
        left join tasker.steps p on p.id = e.parent_id and not p.state = any (%(satisfying)s)
        where s.state = 'pending'
        group by s.id
        having s.parents_left <> count(p.id) or count(p.id) = 0""",
    "the counters of a task agree with its steps": """
        select t.id, t.state, t.steps_open, t.steps_active, t.steps_failed, s.*
        from tasker.tasks t
        cross join lateral (
            select count(*) as total, count(*) filter (where state = any (%(open)s)) as open,
                count(*) filter (where state = any (%(active)s)) as active,
                count(*) filter (where state = 'error') as failed
            from tasker.steps where task_id = t.id) s
        where (t.steps_total, t.steps_open, t.steps_active, t.steps_failed)
            <> (s.total, s.open, s.active, s.failed)""",
    "a task is settled exactly when nothing of it can run": """
        select id, state, steps_open, steps_active from tasker.tasks
        where state in ('in_progress', 'complete', 'error')
          and (state = any (%(settled)s)) <> (steps_active = 0)""",
    "a settled task, and no other, has a time at which it finished": """
        select id, state, finished_at from tasker.tasks
        where (state = any (%(settled)s)) <> (finished_at is not null)""",
    "a step has an open attempt exactly while it is in progress": """
        select s.id, s.name, s.state, s.attempt, a.attempt as open
        from tasker.steps s
        full join (select * from tasker.step_attempts where finished_at is null) a on a.step_id = s.id
        where (s.state = 'in_progress') is distinct from (a.step_id is not null)
           or (s.state = 'in_progress' and (s.attempt, s.claim_id, s.worker_id)
               is distinct from (a.attempt, a.claim_id, a.worker_id))""",
    "attempts are numbered from 1 without a gap": """
        select s.id, s.name, s.attempt, count(a.attempt), max(a.attempt)
        from tasker.steps s left join tasker.step_attempts a on a.step_id = s.id
        group by s.id
        having s.attempt <> count(a.attempt) or s.attempt <> coalesce(max(a.attempt), 0)""",
    "an ended attempt has an outcome": """
        select step_id, attempt from tasker.step_attempts where (finished_at is null) <> (outcome is null)""",
    "a claim id wins a step once": """
        select step_id, claim_id from tasker.step_attempts group by 1, 2 having count(*) > 1""",
    "a step completes once": """
        select step_id from tasker.step_attempts where outcome = 'complete' group by 1 having count(*) > 1""",
    "times are set in the states that they belong to, and in no other": """
        select id, name, state, run_after, ready_at, enqueued_at from tasker.steps
        where (enqueued_at is not null) <> (state = 'enqueued')
           or (ready_at is not null and state <> 'ready')
           or (run_after is not null and state not in ('waiting', 'waiting_for_retry', 'ready'))
           or (run_after is null and state in ('waiting', 'waiting_for_retry'))""",
    "a held step has a time at which it is looked at again, unless its task is paused": """
        select s.id, s.name from tasker.steps s join tasker.tasks t on t.id = s.task_id
        where s.state = 'ready' and s.ready_at is null and s.run_after is null and t.state <> 'paused'""",
    "a step has an open dead letter exactly while it is in error": """
        select s.id, s.name, s.state, l.ids
        from (select id, name, state from tasker.steps where state = 'error') s
        full join (select step_id, array_agg(id) as ids from tasker.dead_letters
                   where closed_at is null group by step_id) l on l.step_id = s.id
        where s.id is null or l.ids is null or cardinality(l.ids) > 1""",
    "edges join steps of one task": """
        select e.* from tasker.step_edges e
        left join tasker.steps p on p.id = e.parent_id left join tasker.steps c on c.id = e.child_id
        where p.task_id is distinct from c.task_id or p.id is null or c.id is null""",
}


def violations(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The rules broken in a database, each with the rows that break it."""
    sets = {
        "satisfying": sorted(SATISFYING),
        "open": sorted(OPEN),
        "active": sorted(ACTIVE),
        "settled": sorted(TASK_SETTLED),
    }
    found = {rule: connection.execute(query, sets).fetchall() for rule, query in RULES.items()}
    found["every move logged is in the tables of moves"] = illegal_moves(connection)
    return {rule: rows for rule, rows in found.items() if rows}


def illegal_moves(connection: Connection) -> list[tuple[Any, ...]]:
    """The (entity, from, to) in the log that `domain/states.py` does not know."""
    legal = {
        *(("steps", move.source, move.target) for move in STEP_MOVES),
        *(("tasks", move.source, move.target) for move in TASK_MOVES),
        *((entity, None, state) for entity, states in FIRST_STATES.items() for state in states),
    }
    logged = connection.execute(
        "select distinct case when step_id is null then 'tasks' else 'steps' end, from_state, to_state"
        " from tasker.transitions"
    )
    return [move for move in logged.fetchall() if move not in legal]
