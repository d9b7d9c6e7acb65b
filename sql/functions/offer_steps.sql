-- Moves steps that may run (again) from p_from to `enqueued`, or to `ready` while their queue or task is
-- held, or when they are more than 64 and their queue has no room for them (cut_by_room); one that was taken
-- out before its parents were satisfied to `pending`. What was in progress has had its turn: only a pause
-- holds it. The one place where that choice is made for steps that were offered before. Closes the dead
-- letters of steps that were in error.
-- ready_at stays null for a paused task: resuming it sets the time, so that the dispatch loop never has to
-- read past them. Caller holds the steps' locks. Returns the moves; a repeat finds no step in p_from.
create or replace function tasker.offer_steps(
    p_steps bigint[], p_from text, p_now timestamptz, p_actor text, p_reason text)
returns tasker.step_move[]
language plpgsql
volatile
as $$
declare
    v_held_queues constant text[] := case
        when p_from = 'in_progress' then array(select name from tasker.queues where paused_at is not null)
        else tasker.held_queues()
    end;
    v_tasks constant uuid[] := array(select distinct task_id from tasker.steps where id = any (p_steps));
    v_paused constant uuid[] := array(
        select id from tasker.tasks where id = any (v_tasks) and state = 'paused');
    v_moves tasker.step_move[];
    v_full text[] := '{}';
    v_last bigint[];
begin
    if cardinality(p_steps) > 64 and p_from <> 'in_progress' then
        select cut.queues, cut.last_steps
        into v_full, v_last
        from (
            select array_agg(id) as ids, array_agg(template_id) as templates, array_agg(ordinal) as ordinals
            from tasker.steps
            where id = any (p_steps) and state = p_from and parents_left = 0
        ) offered
        cross join lateral tasker.cut_by_room(offered.ids, offered.templates, offered.ordinals) cut;
    end if;

    with moved as (
        update tasker.steps s
        set state = f.fate,
            ready_at = case when f.fate = 'ready' and not f.task_paused then p_now end,
            enqueued_at = case when f.fate = 'enqueued' then p_now end,
            start_by = case when f.fate <> 'pending' then p_now + s.start_within_ms * interval '1 ms' end,
            run_after = null,
            changed_at = p_now
        from (
            select own.place, own.task_paused,
                case
                    when own.parents_left > 0 then 'pending'
                    when own.held or own.task_paused then 'ready'
                    else 'enqueued'
                end as fate
            from (
                select ctid as place, parents_left, task_id = any (v_paused) as task_paused,
                    queue = any (v_held_queues)
                        or queue = any (v_full) and id > v_last[array_position(v_full, queue)] as held
                from tasker.steps
                where id = any (p_steps) and state = p_from
            ) own
            offset 0
        ) f
        where s.ctid = f.place
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
