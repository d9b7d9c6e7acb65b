-- An operator declares steps not needed: any unfinished state but in_progress → skipped; children get None
-- for them and go on. Not in a task that has not started.
-- Returns {"moved": [ids], "refused": refused_steps(), "publish", "at", "moves"}.
--
-- Locks: lock_with_children, then a re-check: a claim or finish that came first wins. A repeat moves
-- nothing, refuses nothing that is skipped, and returns what is still to be published.
create or replace function tasker.skip_steps(
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
    v_moves := tasker.move_steps(
        v_open, '{pending,ready,enqueued,waiting_for_retry,waiting,error}', 'skipped', v_now, p_actor,
        p_reason);
    perform tasker.advance_tasks(v_moves, v_now, p_actor, null, v_children);

    return json_build_object(
        'moved', array(select step_id from unnest(v_moves)),
        'refused', tasker.refused_steps(p_steps, v_moves, '{skipped}'),
        'publish', tasker.publication(v_children),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
