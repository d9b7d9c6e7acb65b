-- The handlers that live workers of the queue have between them. Reads workers; no locks.
create or replace function tasker.served_handlers(p_queue text)
returns text[]
language plpgsql
volatile
as $$
begin
    return array(
        select distinct handler
        from tasker.workers
        cross join lateral unnest(handlers) handler
        where stopped_at is null and kind = 'main' and p_queue = any (queues));
end
$$;
