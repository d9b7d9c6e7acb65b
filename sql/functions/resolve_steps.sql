-- An operator declares steps done elsewhere: any unfinished state → resolved_manually, or with p_results
-- ({"<step id>": result}, one for each step) → complete with that result. Adds an attempt row, which fences a
-- handler that still runs: its late outcome is refused. Not in a task that has not started.
-- Returns {"moved": [ids], "refused": refused_steps(), "publish", "at", "moves"}.
--
-- Locks: lock_with_children, then a re-check: a finish that came first wins. A repeat moves nothing, refuses
-- nothing that is in the state asked for, and returns what is still to be published.
create or replace function tasker.resolve_steps(
    p_steps bigint[], p_results jsonb, p_actor text, p_reason text, p_moves boolean)
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
    v_state constant text := case when p_results is null then 'resolved_manually' else 'complete' end;
    v_claim constant uuid := gen_random_uuid();
    v_mark bigint;
    v_children bigint[];
    v_open bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    v_children := tasker.lock_with_children(p_steps, p_steps);
    v_open := tasker.steps_of_started_tasks(p_steps);
    v_open := array(
        select id from tasker.steps
        where id = any (v_open)
          and state not in ('complete', 'skipped', 'cancelled', 'resolved_manually'));

    update tasker.step_attempts
    set finished_at = v_now, outcome = 'resolved_manually'
    where step_id = any (v_open) and outcome is null;
    with fenced as (
        update tasker.steps
        set attempt = attempt + 1, claim_id = v_claim, worker_id = null
        where id = any (v_open)
        returning id, attempt
    )
    insert into tasker.step_attempts (
        step_id, attempt, claim_id, claimed_at, started_at, finished_at, outcome, result)
    select id, attempt, v_claim, v_now, v_now, v_now, v_state, nullif(p_results -> id::text, 'null')
    from fenced;
    v_moves := tasker.move_steps(
        v_open, '{pending,ready,enqueued,in_progress,waiting_for_retry,waiting,error}', v_state, v_now,
        p_actor, p_reason);
    perform tasker.advance_tasks(v_moves, v_now, p_actor, null, v_children);

    return json_build_object(
        'moved', array(select step_id from unnest(v_moves)),
        'refused', tasker.refused_steps(p_steps, v_moves, array[v_state]),
        'publish', tasker.publication(v_children),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
