-- Starts held steps as far as their queues have room, at most p_limit a queue and about ten times as many in
-- all: ready → enqueued (top_up_queue), and opens and closes gates. Also how roots submitted inside a caller's
-- transaction start. Steps of paused queues stay held; those of a paused task have no ready_at and are not
-- seen here.
-- Looks at the queues that have anything held or published, or a closed gate; of the others it costs two
-- looks into an index. A queue that holds nothing and has room is only read.
-- Returns {"moved": n, "closed": how many gates are closed now, "publish", "at", "moves"}.
--
-- Locks: those of top_up_queue, queue by queue in the order of their names; it waits for none. A repeat finds
-- no longer ready what it moved.
create or replace function tasker.dispatch_steps(p_limit integer, p_moves boolean)
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
    v_mark bigint;
    v_queue record;
    v_room record;
    v_topped_up record;
    v_closed integer := 0;
    v_moved bigint[] := '{}';
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    for v_queue in
        select q.name, q.gate_open, held.here as holds
        from tasker.queues q
        left join lateral (
            select true as here from tasker.steps where queue = q.name and ready_at is not null limit 1
        ) held on true
        left join lateral (
            select true as here from tasker.steps where queue = q.name and enqueued_at is not null limit 1
        ) published on true
        where q.paused_at is null and (held.here or published.here or not q.gate_open)
        order by q.name
    loop
        -- a beat of a worker may wait for the rows of the queues that are filled already
        exit when cardinality(v_moved) >= 10 * p_limit;
        if v_queue.gate_open and v_queue.holds is not true then
            select * into v_room from tasker.queue_room(v_queue.name);
            continue when v_room.published_ms < v_room.bound_ms;
        end if;
        v_topped_up := tasker.top_up_queue(v_queue.name, p_limit, v_now);
        v_moved := v_moved || v_topped_up.moved;
        if not coalesce(v_topped_up.gate_open, v_queue.gate_open) then
            v_closed := v_closed + 1;
        end if;
    end loop;

    return json_build_object(
        'moved', cardinality(v_moved),
        'closed', v_closed,
        'publish', tasker.publication(v_moved),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from tasker.steps where id = any (v_moved)), v_mark, v_now)
        end);
end
$$;
