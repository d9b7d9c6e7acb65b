-- The coordinator's part in timeouts: ends attempts that their workers, though alive, have left open far
-- beyond their time. p_steps[i] is ended only while it still runs its attempt p_attempts[i]. It fails with
-- StepTimeout and is retried by its policy. Steps that share their claim with others in progress may never
-- have begun, so none of them is charged: they are offered again, marked `alone`.
-- Returns {"moved": n, "publish", "at", "moves"}.
--
-- Locks: lock_with_children, then a re-check: a finish that came first wins. The late outcome of a handler
-- that goes on is refused. A repeat finds other attempts, or none.
create or replace function tasker.time_out_steps(p_steps bigint[], p_attempts integer[], p_moves boolean)
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
    v_over bigint[];
    v_shared bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform tasker.lock_with_children(p_steps, '{}');
    v_over := array(
        select s.id
        from unnest(p_steps, p_attempts) asked (id, attempt)
        cross join lateral (
            select id, attempt, state from tasker.steps where id = asked.id offset 0
        ) s
        where s.state = 'in_progress' and s.attempt = asked.attempt);
    v_shared := array(
        select id from tasker.steps
        where id = any (v_over) and tasker.claim_is_shared(id, worker_id, claim_id));

    update tasker.step_attempts
    set finished_at = v_now, outcome = 'lost'
    where step_id = any (v_shared) and outcome is null;
    update tasker.steps set alone = true where id = any (v_shared);
    v_moves := tasker.offer_steps(v_shared, 'in_progress', v_now, null, 'timed_out')
        || tasker.record_timeouts(v_over, v_now);
    perform tasker.advance_tasks(v_moves, v_now, null, null);

    return json_build_object(
        'moved', cardinality(v_over),
        'publish', tasker.publication(v_shared),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
