-- Enqueues held steps that are held no longer, per queue that is neither paused nor gated, by priority and
-- then age, at most p_limit a queue: ready → enqueued. Also how roots submitted inside a caller's
-- transaction start. Steps of a paused task have no ready_at and are not seen here.
-- Returns {"moved": n, "publish", "at", "moves"}.
--
-- Locks: steps, SKIP LOCKED inside a materialized CTE: what another coordinator holds it dispatches itself.
-- A repeat finds no longer ready what it moved.
create or replace function tasker.dispatch_steps(p_limit integer, p_moves boolean)
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
    v_mark bigint;
    v_queue text;
    v_batch bigint[];
    v_moved bigint[] := '{}';
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    for v_queue in
        select name from tasker.queues where paused_at is null and gate_open order by name
    loop
        v_batch := array(
            with held as materialized (
                select id from tasker.steps
                where queue = v_queue and ready_at is not null
                order by priority desc, ready_at
                limit p_limit
                for no key update skip locked
            )
            select id from held);
        with moved as (
            update tasker.steps
            set state = 'enqueued', ready_at = null, enqueued_at = v_now, changed_at = v_now
            where id = any (v_batch) and state = 'ready'
            returning id, task_id, attempt
        )
        insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
        select task_id, id, 'ready', 'enqueued', attempt, v_now from moved;
        v_moved := v_moved || v_batch;
    end loop;

    return json_build_object(
        'moved', cardinality(v_moved),
        'publish', tasker.publication(v_moved),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from tasker.steps where id = any (v_moved)), v_mark, v_now)
        end);
end
$$;
