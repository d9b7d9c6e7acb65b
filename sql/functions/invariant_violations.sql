-- Everything in the database that must not be, whatever was running when it was read; no rows = sound.
-- entity is a task id, TASK_ID/STEP, or a row named by its key; detail says what was found. The files
-- {task,step,attempt,letter,log,graph}_violations.sql list the invariants by name.
--
-- p_since: tasks that finished before are left out, and so are rows that belong to no task; null looks at
-- everything. Cost is linear in the steps, edges, attempts and log of the tasks looked at.
--
-- STABLE all through: the whole pack sees the one snapshot of the calling query. In two snapshots a task
-- that moves in between would look broken, though every single snapshot is sound. Reads only, no locks.
create or replace function tasker.invariant_violations(p_since timestamptz default null)
returns table (invariant text, entity text, detail text)
language plpgsql
stable
as $$
begin
    return query
        select * from tasker.task_violations(p_since)
        union all
        select * from tasker.step_violations(p_since)
        union all
        select * from tasker.attempt_violations(p_since)
        union all
        select * from tasker.letter_violations(p_since)
        union all
        select * from tasker.log_violations(p_since)
        union all
        select * from tasker.graph_violations(p_since);
end
$$;
