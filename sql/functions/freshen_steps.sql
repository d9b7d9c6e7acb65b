-- A publisher is late: it gives the steps whose messages it has not sent a new time of publication, and sends
-- them then. The rules of lost messages (republish_steps) take a step for published at its time, so messages
-- sent long after it would be overtaken by later ones, and sent twice.
-- Only steps that still have the time p_at: for the others somebody else has published, or they were claimed.
-- So whoever stamped a step last sends its message, and nobody else does.
-- Returns {"moved": n, "publish", "at"}.
--
-- Locks: the steps by id, SKIP LOCKED: who holds one is claiming or publishing it. The state stays enqueued,
-- so nothing is logged. A repeat finds none with the old time: what it would have sent counts as lost, and is
-- found by those rules.
create or replace function tasker.freshen_steps(p_ids bigint[], p_at timestamptz)
returns json
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_ids bigint[];
begin
    perform tasker.assert_read_committed();
    v_ids := array(
        with unsent as materialized (
            select id, state, enqueued_at from tasker.steps
            where id = any (p_ids)
            order by id
            for no key update skip locked
        )
        select id from unsent where state = 'enqueued' and enqueued_at = p_at);
    update tasker.steps set enqueued_at = v_now where id = any (v_ids);
    return json_build_object(
        'moved', cardinality(v_ids), 'publish', tasker.publication(v_ids), 'at', v_now);
end
$$;
