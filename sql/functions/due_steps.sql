-- Starts what its time has come for, oldest first, at most p_limit steps: retries and timers become
-- enqueued (ready when held), tasks submitted for later start with their roots, and steps given back for
-- a missing handler are offered again if a live worker of their queue has it by now (else in 5 s).
-- Returns {"moved": n, "publish", "at", "moves"}.
--
-- Locks: pending tasks by id, then steps by id, both SKIP LOCKED inside a materialized CTE: what another
-- coordinator holds it is starting itself. A repeat finds no longer due what it moved.
create or replace function tasker.due_steps(p_limit integer, p_moves boolean)
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
    v_due bigint[];
    v_tasks uuid[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    v_due := array(
        select id from tasker.steps where run_after <= v_now order by run_after limit p_limit);
    perform tasker.start_tasks(v_due, v_now);
    v_due := array(
        with due as materialized (
            -- coalesce: by the index of due steps a plan would read all of them
            select id from tasker.steps
            where id = any (v_due) and coalesce(run_after, 'infinity') <= v_now
            order by id
            for no key update skip locked
        )
        select id from due);
    v_tasks := array(select distinct task_id from tasker.steps where id = any (v_due));
    -- a task whose row somebody else holds is started by them, or in the next pass
    v_due := array(
        select id from tasker.steps
        where id = any (v_due)
          and not task_id = any (array(
              select id from tasker.tasks where id = any (v_tasks) and state = 'pending')));

    perform tasker.offer_steps(v_due, 'waiting_for_retry', v_now, null, 'due');
    perform tasker.offer_steps(v_due, 'waiting', v_now, null, 'due');
    perform tasker.offer_given_back(v_due, v_now);

    return json_build_object(
        'moved', cardinality(v_due),
        'publish', tasker.publication(v_due),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(v_tasks, v_mark, v_now) end);
end
$$;
