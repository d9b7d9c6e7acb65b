-- Those of the attempts (p_steps[i], p_attempts[i]) that have ended, by whoever it was. What a worker asks every
-- second about what it runs: a function for the same reason as task_states. Reads only, no locks.
create or replace function tasker.ended_attempts(p_steps bigint[], p_attempts integer[])
returns table (step_id bigint, attempt integer)
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
    return query
    select asked.step_id, asked.attempt
    from unnest(p_steps, p_attempts) asked (step_id, attempt)
    cross join lateral (
        select finished_at
        from tasker.step_attempts
        where step_id = asked.step_id and attempt = asked.attempt
        offset 0
    ) a
    where a.finished_at is not null;
end
$$;
