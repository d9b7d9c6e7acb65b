-- Where to stop publishing steps that may run now, given by id, template and ordinal: for each queue with
-- more than 64 of them, and more work than there is room for, the last one by id that still fits (0: none
-- does). The steps behind it become `ready`, and dispatch_steps starts them by priority and age. Queues that
-- are not named take them all.
-- A call may fill twice the bound of queue_room: it does not come again, and the next dispatch, which keeps to
-- the bound, may be half a second away. So workers do not wait for it.
-- Reads only, no locks.
create or replace function tasker.cut_by_room(
    p_steps bigint[], p_templates integer[], p_ordinals integer[], out queues text[], out last_steps bigint[])
language plpgsql
volatile
as $$
begin
    with work as materialized (
        select s.id, ts.queue,
            sum(tasker.step_cost(h.expected_ms)) over (partition by ts.queue order by s.id) as until_ms
        from unnest(p_steps, p_templates, p_ordinals) as s (id, template_id, ordinal)
        cross join lateral (
            select queue, handler
            from tasker.template_steps
            where template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts
        left join lateral (
            select expected_ms from tasker.handlers where name = ts.handler offset 0
        ) h on true
    ),
    crowd as materialized (
        select queue, max(until_ms) as work_ms from work group by queue having count(*) > 64
    ),
    full_queue as materialized (
        select c.queue, 2 * room.bound_ms - room.published_ms as room_ms
        from crowd c
        cross join lateral tasker.queue_room(c.queue) room
        where c.work_ms > 2 * room.bound_ms - room.published_ms
    )
    select coalesce(array_agg(f.queue), '{}'), coalesce(array_agg(coalesce(fitting.last, 0)), '{}')
    into queues, last_steps
    from full_queue f
    cross join lateral (
        select max(id) as last from work where queue = f.queue and until_ms <= f.room_ms
    ) fitting;
end
$$;
