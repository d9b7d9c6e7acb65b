-- Steps a worker gave back because it lacks their handler (`ready` with a due time): those whose handler a
-- live worker of their queue has by now are handed to the dispatch loop (those of a paused task once it is
-- resumed), the others are looked at again without a trace in the log, after 5 s at first and later each
-- minute. Caller holds the steps' locks. A repeat finds none due.
create or replace function tasker.offer_given_back(p_steps bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
as $$
begin
    update tasker.steps s
    set ready_at = case when g.served and not g.paused then p_now end,
        run_after = case
            when not g.served
            then p_now + greatest(interval '5 seconds', least(interval '1 minute', p_now - s.changed_at))
        end
    from (
        select given.id, tasker.served(given.queue, ts.handler) as served, t.state = 'paused' as paused
        from tasker.steps given
        cross join lateral (
            select handler
            from tasker.template_steps
            where template_id = given.template_id and ordinal = given.ordinal
            offset 0
        ) ts
        cross join lateral (
            select state from tasker.tasks where id = given.task_id offset 0
        ) t
        where given.id = any (p_steps) and given.state = 'ready'
          and coalesce(given.run_after, 'infinity') <= p_now
        offset 0
    ) g
    where s.id = any (p_steps) and s.id = g.id;
end
$$;
