-- Results of a step's direct parents as {name: result}: each that of the parent's last attempt if that
-- completed, else null (skipped, resolved without a result, not done yet). Reads only.
create or replace function tasker.parent_results(p_step bigint)
returns json
language plpgsql
volatile
as $$
begin
    return (
        select coalesce(json_object_agg(p.name, a.result), '{}')
        from tasker.step_edges e
        cross join lateral (
            select id, name, attempt from tasker.steps where id = e.parent_id offset 0
        ) p
        left join lateral (
            select result
            from tasker.step_attempts
            where step_id = p.id and attempt = p.attempt and outcome = 'complete'
            offset 0
        ) a on true
        where e.child_id = p_step
    );
end
$$;
