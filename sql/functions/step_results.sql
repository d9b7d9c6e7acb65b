-- State, result and error of named steps of one task, as {name: {"state", "result", "error"}}, for whoever
-- waits for a task, and for a handler that asks for a distant ancestor. The error of a step in error is its
-- dead letter's, of any other its last attempt's. Reads only.
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
            'error', case
                when s.state = 'error'
                then coalesce((
                    select error from tasker.dead_letters where step_id = s.id and closed_at is null), a.error)
                else a.error
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
