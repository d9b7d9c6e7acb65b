-- Whether a live worker of the queue would start another message at once: were there one, it would have
-- been received. Reads workers; no locks.
create or replace function tasker.queue_is_idle(p_queue text)
returns boolean
language plpgsql
volatile
as $$
begin
    return exists (
        select 1
        from tasker.workers
        where stopped_at is null and kind = 'main' and free > 0 and p_queue = any (queues));
end
$$;
