-- How much work these steps are, in ms by step_cost. Grouped before anything is looked up, so that many steps
-- of few kinds are cheap to ask for. Reads only, no locks.
create or replace function tasker.expected_work(p_steps bigint[])
returns double precision
language plpgsql
volatile
as $$
begin
    return (
        select coalesce(sum(g.steps * tasker.step_cost(h.expected_ms)), 0)
        from (
            select template_id, ordinal, count(*) as steps
            from tasker.steps
            where id = any (p_steps)
            group by template_id, ordinal
        ) g
        cross join lateral (
            select handler
            from tasker.template_steps
            where template_id = g.template_id and ordinal = g.ordinal
            offset 0
        ) ts
        left join lateral (
            select expected_ms from tasker.handlers where name = ts.handler offset 0
        ) h on true
    );
end
$$;
