-- Creates tasks with their steps, edges and first transitions, and starts their roots.
--
-- p_requests: [{"id", "namespace", "name", "version"?, "digest"? | "schema"?, "context", "request_digest", "priority",
-- "tags", "initiator", "source_system", "reason", "correlation_id", "parent_correlation_id",
-- "idempotency_key", "requested_at", "run_after" | "run_after_ms", "deadline_ms"}, …]; without a version the newest active
-- one is taken. All or nothing: an unknown template (TK003), one whose stored digest differs (TK005), or an
-- idempotency key that belongs to another request (TK004) refuses the whole set.
-- p_joined: true inside a caller's transaction. Roots are then `ready`, not enqueued: nobody may publish
-- before the caller commits, and the dispatch loop finds them afterwards. Roots for which a queue has no room
-- (crowded_queues) are `ready` too, and its gate closes; only calls that start more than 64 are asked.
-- Returns {"tasks": submitted(), "publish", "at", "moves"}.
--
-- Locks: the new rows, by key, so that sets which share keys cannot deadlock; a concurrent submit of the
-- same id or key waits on the unique index until this one ends. Last the rows of full queues, SKIP LOCKED, so
-- that nothing is waited for, and a worker's beat, which writes them too, waits for the commit alone; a gate
-- that somebody holds is closed by the next dispatch. A repeat with the same ids inserts nothing
-- and returns the same tasks and, once more, what is to be published for them. Safe in any isolation level:
-- it acts on nothing that others may be changing, a gate aside, where 40001 may ask for a repeat.
create or replace function tasker.submit_tasks(p_requests jsonb, p_joined boolean, p_moves boolean)
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
    v_held constant text[] := tasker.held_queues();
    v_asked constant uuid[] := array(select (r ->> 'id')::uuid from jsonb_array_elements(p_requests) r);
    v_created uuid[];
    v_templates integer[];
    v_roots bigint;
    v_ids bigint[];
    v_crowded text[];
    v_full text[] := '{}';
    v_last bigint[];
    v_reply json;
begin
    perform tasker.check_requests(p_requests);
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    with task as (
        insert into tasker.tasks (
            id, template_id, namespace, name, state, priority, context, tags, initiator, source_system,
            reason, correlation_id, parent_correlation_id, idempotency_key, request_digest, requested_at,
            created_at, run_after, deadline_at, steps_total, steps_open, steps_active, steps_failed)
        select r.id, t.id, r.namespace, r.name,
            case when due.at > v_now then 'pending' else 'in_progress' end,
            coalesce(r.priority, 0), r.context, coalesce(r.tags, '{}'), r.initiator, r.source_system,
            r.reason, coalesce(r.correlation_id, r.id), r.parent_correlation_id, r.idempotency_key,
            r.request_digest, r.requested_at, v_now, case when due.at > v_now then due.at end,
            greatest(v_now, due.at) + coalesce(r.deadline_ms, t.deadline_ms) * interval '1 millisecond',
            t.steps_total, t.steps_total, t.roots_total, 0
        from rows from (jsonb_to_recordset(p_requests) as (
            id uuid, namespace text, name text, version text, context jsonb, request_digest text,
            priority integer, tags text[], initiator text, source_system text, reason text,
            correlation_id uuid, parent_correlation_id uuid, idempotency_key text,
            requested_at timestamptz, run_after timestamptz, run_after_ms bigint, deadline_ms bigint)) with ordinality r
        cross join lateral (
            select coalesce(r.run_after, v_now + r.run_after_ms * interval '1 millisecond') as at
        ) due
        cross join lateral (
            select id, steps_total, roots_total, deadline_ms
            from tasker.templates
            where namespace = r.namespace and name = r.name and retired_at is null
              and (r.version is null or version = r.version)
            order by version_key desc
            limit 1
        ) t
        order by r.idempotency_key, r.ordinality
        on conflict do nothing
        returning id, template_id, state, steps_active
    )
    select coalesce(array_agg(id), '{}'), array_agg(template_id) filter (where state = 'in_progress'),
        sum(steps_active) filter (where state = 'in_progress')
    into v_created, v_templates, v_roots
    from task;

    -- Ids are drawn ahead, so that edges are computed from ordinals instead of joined to new rows.
    v_ids := array(
        select nextval('tasker.steps_id_seq')
        from generate_series(1, (select sum(steps_total) from tasker.tasks where id = any (v_created))));

    if v_roots > 64 and not p_joined then
        v_crowded := tasker.crowded_queues(v_templates, v_held);
    end if;
    if cardinality(v_crowded) > 0 then
        select cut.queues, cut.last_steps
        into v_full, v_last
        from (
            select array_agg(v_ids[f.drawn + ts.ordinal + 1]) as ids, array_agg(f.template_id) as templates,
                array_agg(ts.ordinal) as ordinals
            from (
                select template_id, state,
                    (sum(steps_total) over (order by id) - steps_total)::integer as drawn
                from tasker.tasks
                where id = any (v_created)
            ) f
            cross join lateral (
                select ordinal
                from tasker.template_steps
                where template_id = f.template_id and parents = 0 and f.state = 'in_progress'
                offset 0
            ) ts
        ) roots
        cross join lateral tasker.cut_by_room(roots.ids, roots.templates, roots.ordinals) cut;
    end if;

    with fresh as materialized (
        select id, template_id, state, priority, run_after,
            (sum(steps_total) over (order by id) - steps_total)::integer as drawn
        from tasker.tasks
        where id = any (v_created)
    ),
    step as (
        insert into tasker.steps (
            id, task_id, template_id, ordinal, name, queue, priority, state, parents_left, run_after,
            ready_at, enqueued_at, start_within_ms, start_by, changed_at)
        overriding system value
        select v_ids[f.drawn + ts.ordinal + 1], f.id, f.template_id, ts.ordinal, ts.name, ts.queue,
            f.priority + ts.priority, first.state, ts.parents,
            case when first.state = 'waiting' then f.run_after end,
            case when first.state = 'ready' then v_now end,
            case when first.state = 'enqueued' then v_now end,
            ts.start_within_ms,
            case when first.state in ('ready', 'enqueued') then v_now + ts.start_within_ms * interval '1 ms' end,
            v_now
        from fresh f
        cross join lateral (
            select ordinal, name, queue, priority, parents, start_within_ms
            from tasker.template_steps
            where template_id = f.template_id
            order by ordinal
            offset 0
        ) ts
        cross join lateral (
            select case
                when ts.parents > 0 then 'pending'
                when f.state = 'pending' then 'waiting'
                when p_joined or ts.queue = any (v_held) then 'ready'
                when ts.queue = any (v_full)
                    and v_ids[f.drawn + ts.ordinal + 1] > v_last[array_position(v_full, ts.queue)]
                then 'ready'
                else 'enqueued'
            end as state
        ) first
        returning id, task_id, state
    ),
    edge as (
        insert into tasker.step_edges (parent_id, child_id)
        select v_ids[f.drawn + te.parent + 1], v_ids[f.drawn + te.child + 1]
        from fresh f
        cross join lateral (
            select parent, child
            from tasker.template_edges
            where template_id = f.template_id
            order by parent
            offset 0
        ) te
    )
    insert into tasker.transitions (task_id, step_id, to_state, at)
    select id, null, state, v_now from fresh
    union all
    select task_id, id, state, v_now from step where state <> 'pending';

    v_reply := json_build_object(
        'tasks', tasker.submitted(p_requests),
        'publish', tasker.publication(array(
            select id from tasker.steps where task_id = any (v_asked) and state = 'enqueued')),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(v_created, v_mark, v_now) end);

    if cardinality(v_full) > 0 then
        update tasker.queues
        set gate_open = false
        where name = any (array(
            select name from tasker.queues where name = any (v_full) for no key update skip locked));
    end if;
    return v_reply;
end
$$;
