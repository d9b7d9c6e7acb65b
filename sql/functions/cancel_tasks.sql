-- An operator ends tasks: the task and every step without a final state → cancelled, in one call. Open
-- attempts end, so that a handler that still runs has its late outcome refused.
-- Returns {"moved": [task ids], "refused": [{"task_id", "state"}, …], "at", "moves"}.
--
-- Locks: tasks by id, then their steps by id, in a later statement: a claim or finish that holds a step
-- ends first. The second writer of tasks' counters beside advance_tasks: all become 0. A repeat moves
-- nothing and refuses nothing that is cancelled.
create or replace function tasker.cancel_tasks(
    p_tasks uuid[], p_actor text, p_reason text, p_moves boolean)
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
    v_open uuid[];
    v_steps bigint[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform 1 from tasker.tasks where id = any (p_tasks) order by id for no key update;
    v_open := array(
        select id from tasker.tasks
        where id = any (p_tasks) and state in ('pending', 'in_progress', 'paused', 'error'));
    perform 1 from tasker.steps where task_id = any (v_open) order by id for no key update;
    v_steps := array(
        select id from tasker.steps
        where task_id = any (v_open)
          and state not in ('complete', 'skipped', 'cancelled', 'resolved_manually'));

    update tasker.step_attempts
    set finished_at = v_now, outcome = 'cancelled'
    where step_id = any (v_steps) and outcome is null;
    perform tasker.move_steps(
        v_steps, '{pending,ready,enqueued,in_progress,waiting_for_retry,waiting,error}', 'cancelled', v_now,
        p_actor, p_reason);
    with was as materialized (
        select id, state from tasker.tasks where id = any (v_open)
    ),
    ended as (
        update tasker.tasks
        set state = 'cancelled', steps_open = 0, steps_active = 0, steps_failed = 0, run_after = null,
            finished_at = v_now
        where id = any (v_open)
    )
    insert into tasker.transitions (task_id, from_state, to_state, at, actor, reason)
    select id, state, 'cancelled', v_now, p_actor, p_reason from was;

    return json_build_object(
        'moved', v_open,
        'refused', (
            select coalesce(json_agg(json_build_object('task_id', id, 'state', state)), '[]')
            from tasker.tasks
            where id = any (p_tasks) and not id = any (v_open) and state <> 'cancelled'),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(v_open, v_mark, v_now) end);
end
$$;
