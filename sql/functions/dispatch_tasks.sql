-- Starts at once, for whoever submitted them inside a transaction of theirs that has committed since, the steps
-- of p_tasks that dispatch_steps would start in its next pass: ready → enqueued, in queues that are neither
-- paused nor gated: at most 64, which need not ask for room. Steps of others, and more, are left to the loop.
-- Returns {"moved": n, "publish", "at", "moves"}.
--
-- Locks: steps by id, SKIP LOCKED inside a materialized CTE: what a coordinator holds it dispatches itself.
-- A repeat moves nothing; what of it was enqueued before is published by then, or found by republish_steps.
create or replace function tasker.dispatch_tasks(p_tasks uuid[], p_moves boolean)
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
    v_held_queues constant text[] := tasker.held_queues();
    v_mark bigint;
    v_steps bigint[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    v_steps := array(
        with held as materialized (
            -- coalesce: by the index of held steps a plan would read all of them
            select id from tasker.steps
            where task_id = any (p_tasks) and state = 'ready' and coalesce(ready_at, 'infinity') <= v_now
              and not queue = any (v_held_queues)
            order by id
            limit 64
            for no key update skip locked
        )
        select id from held);
    with moved as (
        update tasker.steps
        set state = 'enqueued', ready_at = null, enqueued_at = v_now, changed_at = v_now
        where id = any (v_steps)
        returning id, task_id, attempt
    )
    insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
    select task_id, id, 'ready', 'enqueued', attempt, v_now from moved;

    return json_build_object(
        'moved', cardinality(v_steps),
        'publish', tasker.publication(v_steps),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(p_tasks, v_mark, v_now) end);
end
$$;
