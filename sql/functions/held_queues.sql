-- Names of the queues whose steps are held (`ready`, not enqueued): paused, or gate closed because too
-- much is published already. Reads the small table of queues; no locks.
create or replace function tasker.held_queues()
returns text[]
language plpgsql
volatile
as $$
begin
    return array(select name from tasker.queues where paused_at is not null or not gate_open);
end
$$;
