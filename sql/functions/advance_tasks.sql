-- What follows from steps having moved: their children lose open parents and become enqueued or ready, or are
-- kept by the worker that reports; the counters of their tasks change, and tasks settle. The only writer of
-- these.
--
-- p_moves: what the caller just did to steps. p_keep: null, or what the reporting worker may keep: newly ready
-- steps of its queue whose handlers it has, a prefix by id while their expected times fit the budget; a slow or
-- unknown one only by itself. Steps marked `alone`, transactional and paused ones are never kept; those of a
-- queue whose gate is closed are, since they need no message.
-- p_children: those of p_moves, as lock_with_children found them. When they are more than 64, and half of what
-- may be published for one slot, those for which their queue has no room (cut_by_room) become `ready`: less
-- than that is published without asking, since most calls that free many steps free quick ones.
-- Returns the ids of the children that became enqueued: to be published.
-- Locks: none of its own; the caller holds tasks and steps as lock_with_children takes them, so that they can
-- be updated by place: joined by key, a plan may look up the whole batch once for each of its rows.
-- A repeat finds that its moves did not happen again, passes none, and changes nothing.
create or replace function tasker.advance_tasks(
    p_moves tasker.step_move[], p_now timestamptz, p_actor text, p_keep tasker.keeper,
    p_children bigint[] default '{}')
returns bigint[]
language plpgsql
volatile
as $$
declare
    v_satisfied bigint[];
    v_children tasker.step_move[];
    v_publish bigint[];
    v_full text[] := '{}';
    v_last bigint[];
begin
    if cardinality(p_moves) = 0 then
        return '{}';
    end if;
    v_satisfied := array(
        select step_id from unnest(p_moves) where to_state in ('complete', 'skipped', 'resolved_manually'));

    if cardinality(p_children) > 64
        and tasker.expected_work(p_children) > tasker.step_cost('infinity') / 2
    then
        select cut.queues, cut.last_steps
        into v_full, v_last
        from (
            select array_agg(s.id) as ids, array_agg(s.template_id) as templates,
                array_agg(s.ordinal) as ordinals
            from (
                select own.child_id as id, count(*)::integer as fewer
                from unnest(v_satisfied) parent (id)
                cross join lateral (
                    select child_id from tasker.step_edges where parent_id = parent.id offset 0
                ) own
                group by own.child_id
            ) e
            cross join lateral (
                select id, template_id, ordinal
                from tasker.steps
                where id = e.id and state = 'pending' and parents_left = e.fewer
                offset 0
            ) s
        ) free
        cross join lateral tasker.cut_by_room(free.ids, free.templates, free.ordinals) cut;
    end if;

    with freed as (
        select s.place, s.id, e.fewer, t.state = 'paused' or q.paused is true as paused,
            t.state = 'paused' as task_paused,
            q.gated is true
                or s.queue = any (v_full) and s.id > v_last[array_position(v_full, s.queue)] as gated,
            -- a child that an operator finished before its parents keeps its final state
            s.state = 'pending' and s.parents_left = e.fewer as may_run,
            s.queue = p_keep.queue and not s.alone and not ts.transactional
                and ts.handler = any (p_keep.handlers) as fits,
            coalesce(h.expected_ms, 'infinity') as expected_ms
        from (
            select own.child_id as id, count(*)::integer as fewer
            from unnest(v_satisfied) parent (id)
            cross join lateral (
                select child_id from tasker.step_edges where parent_id = parent.id offset 0
            ) own
            group by own.child_id
        ) e
        cross join lateral (
            select ctid as place, id, task_id, template_id, ordinal, queue, state, parents_left, alone
            from tasker.steps
            where id = e.id
            offset 0
        ) s
        cross join lateral (
            select state from tasker.tasks where id = s.task_id offset 0
        ) t
        left join lateral (
            select paused_at is not null as paused, not gate_open as gated
            from tasker.queues
            where name = s.queue
            offset 0
        ) q on true
        left join lateral (
            select handler, transactional
            from tasker.template_steps
            where p_keep.claim is not null and template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts on true
        left join lateral (
            select expected_ms from tasker.handlers where name = ts.handler offset 0
        ) h on true
    ),
    ranked as (
        select place, fewer, may_run, paused, task_paused, gated, may_run and fits and not paused as fits,
            count(*) filter (where may_run and fits and not paused) over earlier as rank,
            sum(expected_ms) filter (where may_run and fits and not paused) over earlier as work_ms
        from freed
        window earlier as (order by id)
    ),
    fate as materialized (
        select place, fewer,
            case
                when not may_run then null
                when paused then 'ready'
                when fits and rank <= p_keep.most and (work_ms <= p_keep.budget_ms or rank = 1)
                    then 'in_progress'
                when gated then 'ready'
                else 'enqueued'
            end as becomes,
            not task_paused as waits_for_queue
        from ranked
    ),
    child as (
        update tasker.steps s
        set parents_left = s.parents_left - f.fewer,
            state = coalesce(f.becomes, s.state),
            attempt = case when f.becomes = 'in_progress' then s.attempt + 1 else s.attempt end,
            claim_id = case when f.becomes = 'in_progress' then p_keep.claim else s.claim_id end,
            worker_id = case when f.becomes = 'in_progress' then p_keep.worker else s.worker_id end,
            ready_at = case
                when f.becomes is null then s.ready_at
                when f.becomes = 'ready' and f.waits_for_queue then p_now
            end,
            enqueued_at = case
                when f.becomes is null then s.enqueued_at
                when f.becomes = 'enqueued' then p_now
            end,
            start_by = case
                when f.becomes is null then s.start_by
                when f.becomes in ('ready', 'enqueued') then p_now + s.start_within_ms * interval '1 ms'
            end,
            changed_at = case when f.becomes is null then s.changed_at else p_now end
        from fate f
        where s.ctid = f.place
        returning s.id, s.task_id, s.attempt, f.becomes
    ),
    attempt as (
        insert into tasker.step_attempts (step_id, attempt, claim_id, worker_id, claimed_at)
        select id, attempt, p_keep.claim, p_keep.worker, p_now from child where becomes = 'in_progress'
    ),
    log as (
        insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at, actor)
        select task_id, id, 'pending', case when becomes = 'ready' then 'ready' else 'enqueued' end, null,
            p_now, p_actor
        from child
        where becomes is not null
        union all
        select task_id, id, 'enqueued', 'in_progress', attempt, p_now, p_actor
        from child
        where becomes = 'in_progress'
    )
    select coalesce(array_agg((task_id, id, 'pending', becomes)::tasker.step_move), '{}'),
        coalesce(array_agg(id) filter (where becomes = 'enqueued'), '{}')
    into v_children, v_publish
    from child
    where becomes is not null;

    with counted as (
        select t.place, t.id, t.state as from_state,
            t.steps_open + d.open as open, t.steps_active + d.active as active,
            t.steps_failed + d.failed as failed
        from (
            select task_id,
                sum((to_state not in ('complete', 'skipped', 'cancelled', 'resolved_manually'))::integer
                    - (from_state not in ('complete', 'skipped', 'cancelled', 'resolved_manually'))::integer
                )::integer as open,
                sum((to_state in ('ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting'))::integer
                    - (from_state in ('ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting')
                    )::integer
                )::integer as active,
                sum((to_state = 'error')::integer - (from_state = 'error')::integer)::integer as failed
            from unnest(p_moves || v_children)
            group by task_id
        ) d
        cross join lateral (
            select ctid as place, id, state, steps_open, steps_active, steps_failed
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
        where t.ctid = s.place
    )
    insert into tasker.transitions (task_id, from_state, to_state, at, actor)
    select id, from_state, to_state, p_now, p_actor from settled where to_state <> from_state;

    return v_publish;
end
$$;
