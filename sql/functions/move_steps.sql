-- Takes steps out of the states p_from to p_to, where nothing is due or published for them: error, skipped,
-- cancelled, resolved_manually, complete. Logs each, writes a dead letter for each that becomes error, and
-- closes those of the ones that were. To error, p_reason is a reason of dead letters; with an actor it is his
-- own words, and the letter's is `parked`.
-- Caller holds the locks, ends open attempts, and passes the moves on to advance_tasks. A repeat finds no
-- step in p_from.
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
            set state = p_to, enqueued_at = null, ready_at = null, start_by = null, run_after = null,
                changed_at = p_now
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
        if v_from = 'error' then
            perform tasker.close_letters(
                array(select step_id from unnest(v_some)), p_now, p_actor, coalesce(p_reason, p_to));
        end if;
        v_moves := v_moves || v_some;
    end loop;
    if p_to = 'error' then
        perform tasker.bury_steps(
            array(select step_id from unnest(v_moves)),
            case when p_actor is null then p_reason else 'parked' end,
            coalesce(
                case
                    when p_actor is not null then p_reason
                    when p_reason = 'worker_lost' then 'the workers that ran it died'
                    when p_reason = 'unclaimable' then 'no worker claimed it'
                    when p_reason = 'start_timeout' then 'no worker began it within its start_within_seconds'
                    when p_reason = 'deadline' then 'the deadline of the task passed'
                end,
                'no handler raised it'),
            p_now);
    end if;
    return v_moves;
end
$$;
