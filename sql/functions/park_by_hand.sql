-- An operator takes steps out: pending, ready, enqueued, waiting or waiting_for_retry → error, with a dead
-- letter of reason `parked`, until a retry, skip or resolve ends it. What runs is left alone, and so is a
-- task that has not started.
-- Returns {"moved": [ids], "refused": refused_steps(), "at", "moves"}.
--
-- Locks: lock_with_children, then a re-check: a claim that came first wins. A repeat moves nothing and refuses
-- nothing that is in error.
create or replace function tasker.park_by_hand(
    p_steps bigint[], p_actor text, p_reason text, p_moves boolean)
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
    -- a move to error that names nobody is the engine's own
    v_actor constant text := coalesce(p_actor, session_user);
    v_mark bigint;
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform tasker.lock_with_children(p_steps, '{}');
    v_moves := tasker.move_steps(
        tasker.steps_of_started_tasks(p_steps), '{pending,ready,enqueued,waiting_for_retry,waiting}', 'error',
        v_now, v_actor, p_reason);
    perform tasker.advance_tasks(v_moves, v_now, v_actor, null);

    return json_build_object(
        'moved', array(select step_id from unnest(v_moves)),
        'refused', tasker.refused_steps(p_steps, v_moves, '{error}'),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
