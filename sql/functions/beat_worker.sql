-- A main's sign of life: one beat more, how many messages it could start at once (p_free), and per queue
-- the newest publication time received since the last beat (p_received: {queue: timestamp}).
-- Returns false if the worker was stopped meanwhile: it has to register anew. Locks: its own row, then the
-- rows of the queues by name. A repeat beats twice, which hurts nobody.
create or replace function tasker.beat_worker(p_worker integer, p_free integer, p_received jsonb)
returns boolean
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_alive boolean;
begin
    update tasker.workers
    set beats = beats + 1, beat_at = v_now, free = p_free
    where id = p_worker and stopped_at is null;
    v_alive := found;

    perform 1
    from tasker.queues
    where name in (select jsonb_object_keys(p_received))
    order by name
    for no key update;
    update tasker.queues q
    set received_at = greatest(q.received_at, heard.at::timestamptz), heard_at = v_now
    from jsonb_each_text(p_received) as heard (queue, at)
    where q.name = heard.queue;
    return v_alive;
end
$$;
