-- Ends tasks whose deadline has passed: every active step becomes error with a dead letter of reason
-- `deadline` and an error of type DeadlineExceeded, attempts that run end, and the late outcome of a handler
-- that goes on is refused. Steps that wait for parents stay pending, so a task in progress settles to error; a
-- paused one settles when it is resumed. A task that has settled, or has not started, is left as it is.
-- deadline_at becomes null, since it has been dealt with; for a task that is still to start it stays.
-- Returns {"moved": n tasks, "looked_at": n, "at", "moves"}; looks at p_limit tasks at most.
--
-- Locks: as cancel_tasks, tasks by id, then their steps by id in a later statement: a claim or finish that
-- holds a step ends first. A repeat finds no deadline.
create or replace function tasker.expire_tasks(p_limit integer, p_moves boolean)
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
    v_past uuid[];
    v_late uuid[];
    v_steps bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    v_past := array(
        select id from tasker.tasks
        where deadline_at <= v_now and deadline_at is not null and run_after is null
        order by deadline_at
        limit p_limit);
    if cardinality(v_past) = 0 then
        return json_build_object('moved', 0, 'looked_at', 0, 'at', v_now);
    end if;
    perform 1 from tasker.tasks where id = any (v_past) order by id for no key update;
    v_late := array(
        -- coalesce: by the index of deadlines a plan would read all that have passed
        select id from tasker.tasks
        where id = any (v_past) and coalesce(deadline_at, 'infinity') <= v_now
          and state in ('in_progress', 'paused'));
    perform 1 from tasker.steps where task_id = any (v_late) order by id for no key update;
    v_steps := array(
        select id from tasker.steps
        where task_id = any (v_late)
          and state in ('ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting'));

    update tasker.step_attempts
    set finished_at = v_now, outcome = 'cancelled',
        error = json_build_object(
            'type', 'DeadlineExceeded', 'message', 'the deadline of the task passed', 'traceback', '')
    where step_id = any (v_steps) and outcome is null;
    v_moves := tasker.move_steps(
        v_steps, '{ready,enqueued,in_progress,waiting_for_retry,waiting}', 'error', v_now, null, 'deadline');
    perform tasker.advance_tasks(v_moves, v_now, null, null);
    update tasker.tasks
    set deadline_at = null
    where id = any (v_past) and coalesce(deadline_at, 'infinity') <= v_now;

    return json_build_object(
        'moved', cardinality(v_late),
        'looked_at', cardinality(v_past),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(v_late, v_mark, v_now) end);
end
$$;
