-- Moves steps that may run (again) from p_from to `enqueued`, or to `ready` while their queue or task is
-- held; one that was taken out before its parents were satisfied to `pending`. The one place where that choice
-- is made for steps that already had their turn. Closes the dead letters of steps that were in error.
-- ready_at stays null for a paused task: resuming it sets the time, so that the dispatch loop never has to
-- read past them. Caller holds the steps' locks. Returns the moves; a repeat finds no step in p_from.
create or replace function tasker.offer_steps(
    p_steps bigint[], p_from text, p_now timestamptz, p_actor text, p_reason text)
returns tasker.step_move[]
language plpgsql
volatile
as $$
declare
    v_held_queues constant text[] := tasker.held_queues();
    v_tasks constant uuid[] := array(select distinct task_id from tasker.steps where id = any (p_steps));
    v_paused constant uuid[] := array(
        select id from tasker.tasks where id = any (v_tasks) and state = 'paused');
    v_moves tasker.step_move[];
begin
    with moved as (
        update tasker.steps s
        set state = case
                when s.parents_left > 0 then 'pending'
                when s.queue = any (v_held_queues) or s.task_id = any (v_paused) then 'ready'
                else 'enqueued'
            end,
            ready_at = case
                when s.parents_left = 0 and s.queue = any (v_held_queues) and not s.task_id = any (v_paused)
                then p_now
            end,
            enqueued_at = case
                when s.parents_left > 0 or s.queue = any (v_held_queues) or s.task_id = any (v_paused)
                then null
                else p_now
            end,
            start_by = case when s.parents_left = 0 then p_now + s.start_within_ms * interval '1 ms' end,
            run_after = null,
            changed_at = p_now
        where s.id = any (p_steps) and s.state = p_from
        returning s.id, s.task_id, s.attempt, s.state
    ),
    log as (
        insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at, actor, reason)
        select task_id, id, p_from, state, attempt, p_now, p_actor, p_reason from moved
    )
    select coalesce(array_agg((task_id, id, p_from, state)::tasker.step_move), '{}')
    into v_moves
    from moved;
    if p_from = 'error' then
        perform tasker.close_letters(
            array(select step_id from unnest(v_moves)), p_now, p_actor, p_reason);
    end if;
    return v_moves;
end
$$;
