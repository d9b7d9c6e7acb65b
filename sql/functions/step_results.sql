-- State, result and last recorded error of named steps of one task, as {name: {"state", "result", "error",
-- "reason"}}, for whoever waits for a task, and for a handler that asks for a distant ancestor. `reason` says
-- why a step is in error that no handler failed: its workers died, nobody could claim it. Reads only.
create or replace function tasker.step_results(p_task uuid, p_names text[])
returns json
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    return (
        select coalesce(json_object_agg(s.name, json_build_object(
            'state', s.state, 'result', a.result,
            'error', a.error,
            'reason', case
                when s.state = 'error' and a.error is null then (
                    select reason
                    from tasker.transitions
                    where task_id = p_task and step_id = s.id and to_state = 'error'
                    order by seq desc
                    limit 1)
            end)), '{}')
        from tasker.steps s
        left join lateral (
            select case when outcome = 'complete' then result end as result, error
            from tasker.step_attempts
            where step_id = s.id and attempt = s.attempt
            offset 0
        ) a on true
        where s.task_id = p_task and s.name = any (p_names)
    );
end
$$;
