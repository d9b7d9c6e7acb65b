-- Attempts that have been open for p_grace longer than their step's timeout, under workers that look alive:
-- those workers should have ended them. Steps of stopped workers are recover_steps' affair.
--
-- What an outage of the database held up looks overdue too, until its worker has reported it: a caller acts
-- (time_out_steps) only on what it has seen overdue for a while. Reads only, no locks. Reads every open
-- attempt, of which there are as many as steps run.
create or replace function tasker.overdue_attempts(p_grace interval)
returns table (step_id bigint, attempt integer)
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := tasker.clock();
begin
    return query
    select a.step_id, a.attempt
    from (
        select step_id, attempt, worker_id, claimed_at
        from tasker.step_attempts
        where finished_at is null and claimed_at < v_now - p_grace
        offset 0
    ) a
    cross join lateral (
        select template_id, ordinal from tasker.steps where id = a.step_id offset 0
    ) s
    cross join lateral (
        select timeout_ms
        from tasker.template_steps
        where template_id = s.template_id and ordinal = s.ordinal
        offset 0
    ) ts
    cross join lateral (
        select 1
        from tasker.workers own
        left join tasker.workers main on main.id = own.parent_id
        where own.id = a.worker_id and own.stopped_at is null and main.stopped_at is null
        offset 0
    ) alive
    where a.claimed_at + ts.timeout_ms * interval '1 millisecond' < v_now - p_grace;
end
$$;
