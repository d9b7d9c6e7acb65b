-- What follows from steps having moved: their children lose open parents and become enqueued or ready,
-- the counters of their tasks change, and tasks settle. The only writer of these three.
--
-- p_moves: what the caller just did to steps. p_enqueued_at: publication time of the children that
-- become enqueued, null when the caller decides afterwards which of them it keeps.
-- Returns p_moves and the moves of the children.
-- Locks: none of its own; the caller holds tasks and steps as lock_with_children takes them.
-- A repeat finds that its moves did not happen again, passes none, and changes nothing.
create or replace function tasker.advance_tasks(
    p_moves tasker.step_move[], p_now timestamptz, p_enqueued_at timestamptz, p_actor text)
returns tasker.step_move[]
language plpgsql
volatile
as $$
declare
    v_tasks uuid[];
    v_satisfied bigint[];
    v_held_queues text[];
    v_held_tasks uuid[];
    v_fewer integer;
    v_group bigint[];
    v_children tasker.step_move[];
    v_moves tasker.step_move[] := p_moves;
begin
    if cardinality(p_moves) = 0 then
        return v_moves;
    end if;

    select array_agg(distinct task_id),
        array_agg(step_id) filter (where to_state in ('complete', 'skipped', 'resolved_manually'))
    into v_tasks, v_satisfied
    from unnest(p_moves);
    v_held_queues := tasker.held_queues();
    v_held_tasks := array(select id from tasker.tasks where id = any (v_tasks) and state = 'paused');

    -- Grouped by how many of its parents a child lost at once, mostly one: so each update finds its rows
    -- by id alone, and no statistics can turn it into another plan.
    for v_fewer, v_group in
        select n, array_agg(id)
        from (
            select e.child_id as id, count(*)::integer as n
            from unnest(v_satisfied) parent (id)
            cross join lateral (
                select child_id from tasker.step_edges where parent_id = parent.id offset 0
            ) e
            group by e.child_id
        ) children
        group by n
    loop
        with child as (
            update tasker.steps s
            set parents_left = s.parents_left - v_fewer,
                state = case
                    when s.state <> 'pending' or s.parents_left > v_fewer then s.state
                    when s.queue = any (v_held_queues) or s.task_id = any (v_held_tasks) then 'ready'
                    else 'enqueued'
                end,
                ready_at = case
                    when s.state <> 'pending' or s.parents_left > v_fewer then s.ready_at
                    when s.queue = any (v_held_queues) and not s.task_id = any (v_held_tasks) then p_now
                end,
                enqueued_at = case
                    when s.state <> 'pending' or s.parents_left > v_fewer then s.enqueued_at
                    when s.queue = any (v_held_queues) or s.task_id = any (v_held_tasks) then null
                    else p_enqueued_at
                end,
                changed_at = case
                    when s.state <> 'pending' or s.parents_left > v_fewer then s.changed_at
                    else p_now
                end
            where s.id = any (v_group)
            returning s.id, s.task_id, s.state, s.parents_left
        ),
        -- a child that an operator finished before its parents keeps its final state
        moved as (
            select task_id, id, state from child where parents_left = 0 and state in ('enqueued', 'ready')
        ),
        log as (
            insert into tasker.transitions (task_id, step_id, from_state, to_state, at, actor)
            select task_id, id, 'pending', state, p_now, p_actor from moved
        )
        select array_agg((task_id, id, 'pending', state)::tasker.step_move) into v_children from moved;
        v_moves := v_moves || v_children;
    end loop;

    with delta as materialized (
        select task_id,
            sum((to_state not in ('complete', 'skipped', 'cancelled', 'resolved_manually'))::integer
                - (from_state not in ('complete', 'skipped', 'cancelled', 'resolved_manually'))::integer
            )::integer as open,
            sum((to_state in ('ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting'))::integer
                - (from_state in ('ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting'))::integer
            )::integer as active,
            sum((to_state = 'error')::integer - (from_state = 'error')::integer)::integer as failed
        from unnest(v_moves)
        group by task_id
    ),
    counted as materialized (
        select t.id, t.state as from_state,
            t.steps_open + d.open as open, t.steps_active + d.active as active,
            t.steps_failed + d.failed as failed
        from delta d
        cross join lateral (
            select id, state, steps_open, steps_active, steps_failed
            from tasker.tasks
            where id = d.task_id
            offset 0
        ) t
    ),
    settled as materialized (
        select c.*,
            case
                when c.open = 0 then 'complete'
                when c.from_state = 'in_progress' and c.active = 0 and c.failed > 0 then 'error'
                when c.from_state = 'error' and c.active > 0 then 'in_progress'
                else c.from_state
            end as to_state
        from counted c
    ),
    task as (
        update tasker.tasks t
        set steps_open = s.open,
            steps_active = s.active,
            steps_failed = s.failed,
            state = s.to_state,
            finished_at = case
                when s.to_state = s.from_state then t.finished_at
                when s.to_state in ('complete', 'error') then p_now
            end
        from settled s
        where t.id = any (v_tasks) and t.id = s.id
    )
    insert into tasker.transitions (task_id, from_state, to_state, at, actor)
    select id, from_state, to_state, p_now, p_actor from settled where to_state <> from_state;

    return v_moves;
end
$$;
