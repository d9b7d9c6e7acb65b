-- How much work of a queue may be published, and how much is: in ms, by step_cost. The bound is half a second
-- for each step that its live workers can run at once, and that of one slot while nobody serves it. 20 000
-- steps are full whatever they cost: no worker's queue needs more, and no more are read here.
-- Published steps whose handler no live worker of the queue has take no room, as long as it has any: their
-- messages may be lost and are not sent again (republish_steps), and would keep all others out for ever.
-- Reads only, no locks: what others are about to publish is not seen, so a bound may be passed by what runs
-- beside; the next dispatch sees it.
create or replace function tasker.queue_room(
    p_queue text, out bound_ms double precision, out published_ms double precision)
language plpgsql
volatile
as $$
declare
    v_most constant integer := 20000;
    v_handlers constant text[] := tasker.served_handlers(p_queue);
begin
    select tasker.step_cost('infinity') * greatest(1, sum(slots))
    into bound_ms
    from tasker.workers
    where stopped_at is null and kind = 'main' and p_queue = any (queues);

    select case
            when sum(p.steps) >= v_most then greatest(bound_ms, sum(p.steps * cost.ms))
            else coalesce(sum(p.steps * cost.ms), 0)
        end
    into published_ms
    from (
        select template_id, ordinal, count(*) as steps
        from (
            select template_id, ordinal
            from tasker.steps
            where queue = p_queue and enqueued_at is not null
            limit v_most
        ) published
        group by template_id, ordinal
    ) p
    cross join lateral (
        select handler
        from tasker.template_steps
        where template_id = p.template_id and ordinal = p.ordinal
        offset 0
    ) ts
    left join lateral (
        select expected_ms from tasker.handlers where name = ts.handler offset 0
    ) h on true
    cross join lateral (
        select tasker.step_cost(h.expected_ms) as ms
    ) cost
    where cardinality(v_handlers) = 0 or ts.handler = any (v_handlers);
end
$$;
