-- Those of p_steps whose task has started and is not final: what an operator may skip or resolve. In a task
-- that waits for its run_after nothing is active yet, so finishing a root by hand could leave nobody to
-- start the rest. Reads only; the caller holds the tasks' locks.
create or replace function tasker.steps_of_started_tasks(p_steps bigint[])
returns bigint[]
language plpgsql
volatile
as $$
begin
    return array(
        select s.id
        from tasker.steps s
        cross join lateral (
            select state from tasker.tasks where id = s.task_id offset 0
        ) t
        where s.id = any (p_steps) and t.state in ('in_progress', 'paused', 'error'));
end
$$;
