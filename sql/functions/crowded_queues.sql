-- The queues, p_held left out, into which one task of each of p_templates (one id a task) would publish more
-- than 64 roots and more work than a call has room for (cut_by_room). Fewer steps are published without
-- asking: a bound may be passed by a little, and small calls pay nothing for it.
-- Reads only, no locks.
create or replace function tasker.crowded_queues(p_templates integer[], p_held text[])
returns text[]
language plpgsql
volatile
as $$
begin
    return array(
        with roots as materialized (
            select ts.queue, sum(t.tasks * ts.steps) as steps, sum(t.tasks * ts.work_ms) as work_ms
            from (
                select template_id, count(*) as tasks
                from unnest(p_templates) template_id
                group by template_id
            ) t
            cross join lateral (
                select root.queue, count(*) as steps, sum(tasker.step_cost(h.expected_ms)) as work_ms
                from tasker.template_steps root
                left join lateral (
                    select expected_ms from tasker.handlers where name = root.handler offset 0
                ) h on true
                where root.template_id = t.template_id and root.parents = 0
                group by root.queue
                offset 0
            ) ts
            group by ts.queue
        ),
        crowd as materialized (
            select queue, work_ms from roots where steps > 64 and not queue = any (p_held)
        )
        select c.queue
        from crowd c
        cross join lateral tasker.queue_room(c.queue) room
        where c.work_ms > 2 * room.bound_ms - room.published_ms);
end
$$;
