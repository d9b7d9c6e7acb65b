-- Takes steps out of the states p_from to p_to, where nothing is due or published for them: error, skipped,
-- cancelled, resolved_manually, complete. Logs each. Caller holds the locks, ends open attempts, and passes
-- the moves on to advance_tasks. A repeat finds no step in p_from.
create or replace function tasker.move_steps(
    p_steps bigint[], p_from text[], p_to text, p_now timestamptz, p_actor text, p_reason text)
returns tasker.step_move[]
language plpgsql
volatile
as $$
declare
    v_from text;
    v_some tasker.step_move[];
    v_moves tasker.step_move[] := '{}';
begin
    -- by source state, so that the log names it without a join to the old rows
    foreach v_from in array p_from loop
        with moved as (
            update tasker.steps
            set state = p_to, enqueued_at = null, ready_at = null, run_after = null, changed_at = p_now
            where id = any (p_steps) and state = v_from
            returning id, task_id, attempt
        ),
        log as (
            insert into tasker.transitions (
                task_id, step_id, from_state, to_state, attempt, at, actor, reason)
            select task_id, id, v_from, p_to, attempt, p_now, p_actor, p_reason from moved
        )
        select coalesce(array_agg((task_id, id, v_from, p_to)::tasker.step_move), '{}')
        into v_some
        from moved;
        v_moves := v_moves || v_some;
    end loop;
    return v_moves;
end
$$;
