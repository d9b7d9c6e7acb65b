-- Steps that may run but that no live worker would take: per queue and handler how many, since when the
-- oldest of them waits, and whether anybody serves the queue at all. Counts enqueued, held and given back
-- steps, also those of a paused queue. Reads only, no locks; the cost is that of the steps that may run.
create or replace function tasker.unserved_steps()
returns table (queue text, handler text, steps bigint, oldest_at timestamptz, queue_served boolean)
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
    select waiting.queue, ts.handler, sum(waiting.n)::bigint, min(waiting.oldest), workers.any
    from (
        select queue, template_id, ordinal, count(*) as n, min(enqueued_at) as oldest
        from tasker.steps
        where enqueued_at is not null
        group by queue, template_id, ordinal
        union all
        select queue, template_id, ordinal, count(*), min(ready_at)
        from tasker.steps
        where ready_at is not null
        group by queue, template_id, ordinal
        union all
        select queue, template_id, ordinal, count(*), min(changed_at)
        from tasker.steps
        where run_after is not null and state = 'ready'
        group by queue, template_id, ordinal
    ) waiting
    cross join lateral (
        select handler
        from tasker.template_steps
        where template_id = waiting.template_id and ordinal = waiting.ordinal
        offset 0
    ) ts
    cross join lateral (
        select count(*) > 0 as any, coalesce(bool_or(ts.handler = any (handlers)), false) as able
        from tasker.workers
        where stopped_at is null and kind = 'main' and waiting.queue = any (queues)
    ) workers
    where not workers.able
    group by waiting.queue, ts.handler, workers.any
    order by waiting.queue, ts.handler;
end
$$;
