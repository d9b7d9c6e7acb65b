-- Finds messages that are lost and has them published again. Queues are first in, first out, so a step
-- still enqueued is
--   overtaken: published more than p_grace before the newest message already received from its queue;
--   probed: nothing was heard from the queue for p_grace though a live worker of it is free; then the
--           oldest p_probe, which makes the others overtaken once they arrive.
-- A long backlog is therefore never doubled, and steps whose queue or handler no live worker serves are
-- left alone (`why` and `doctor` report them). At most p_limit a queue.
-- A message may also wait, received and not begun, in a worker whose handlers take long. So each publication
-- of a step waits twice as long for the next as for the one before, and only while a live worker is free is
-- a step, after p_max_publishes by these rules, returned under "unclaimable", for park_steps.
-- Returns {"moved": n, "unclaimable": [ids], "publish", "at"}.
--
-- Locks: steps by id, SKIP LOCKED inside a materialized CTE. The state stays enqueued, so nothing is
-- logged. A repeat finds the publication times fresh.
create or replace function tasker.republish_steps(
    p_grace interval, p_limit integer, p_probe integer, p_max_publishes integer)
returns json
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_queue tasker.queues;
    v_before timestamptz;
    v_limit integer;
    v_idle boolean;
    v_handlers text[];
    v_batch bigint[];
    v_lost bigint[] := '{}';
    v_stuck bigint[] := '{}';
    v_unclaimable bigint[];
begin
    perform tasker.assert_read_committed();
    for v_queue in select * from tasker.queues order by name loop
        v_before := v_queue.received_at - p_grace;
        v_limit := p_limit;
        v_idle := tasker.queue_is_idle(v_queue.name);
        if v_idle and coalesce(v_queue.heard_at, '-infinity') < v_now - p_grace then
            v_before := v_now - p_grace;
            v_limit := p_probe;
        end if;
        v_handlers := tasker.served_handlers(v_queue.name);
        v_batch := array(
            with old as materialized (
                select s.id
                from tasker.steps s
                cross join lateral (
                    select handler
                    from tasker.template_steps
                    where template_id = s.template_id and ordinal = s.ordinal
                    offset 0
                ) ts
                where s.queue = v_queue.name and s.enqueued_at < v_before and s.state = 'enqueued'
                  and s.enqueued_at < v_before - (power(2, least(s.republished, 16)) - 1) * p_grace
                  -- before the limit, so that steps nobody can run do not stand before the others
                  and ts.handler = any (v_handlers)
                order by s.enqueued_at
                limit v_limit
                for no key update of s skip locked
            )
            select id from old);
        v_lost := v_lost || v_batch;
        if v_idle then
            v_stuck := v_stuck || v_batch;
        end if;
    end loop;

    v_unclaimable := array(
        select id from tasker.steps where id = any (v_stuck) and republished >= p_max_publishes);
    update tasker.steps
    set enqueued_at = v_now, republished = republished + 1
    where id = any (v_lost) and not id = any (v_unclaimable);

    return json_build_object(
        'moved', cardinality(v_lost) - cardinality(v_unclaimable),
        'unclaimable', v_unclaimable,
        'publish', tasker.publication(array(
            select id from unnest(v_lost) id where not id = any (v_unclaimable))),
        'at', v_now);
end
$$;
