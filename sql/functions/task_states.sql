-- The states of p_tasks; what is no task has no row. What somebody who waits asks again and again: a function, so
-- that only the plan by key exists; a statement prepared while there were few tasks would go on reading them all.
-- Reads only, no locks.
create or replace function tasker.task_states(p_tasks uuid[])
returns table (id uuid, state text)
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    return query select t.id, t.state::text from tasker.tasks t where t.id = any (p_tasks);
end
$$;
