-- Whether a live worker takes messages from the queue and has the handler. Reads workers; no locks.
create or replace function tasker.served(p_queue text, p_handler text)
returns boolean
language plpgsql
volatile
as $$
begin
    return exists (
        select 1
        from tasker.workers
        where stopped_at is null and kind = 'main'
          and p_queue = any (queues) and p_handler = any (handlers));
end
$$;
