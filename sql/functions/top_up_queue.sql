-- Publishes held steps of a queue until the work that is published fills its bound (queue_room), at most
-- p_limit: ready → enqueued, by priority and then age; every tenth is the one that has waited longest,
-- whatever its priority, so that nothing waits for ever. `queues.dispatched` counts them from call to call.
-- Opens or closes the queue's gate: closed while steps are left or the bound is reached, open again once
-- nothing is left and the published work is below half of it. Behind a closed gate what others set free
-- becomes `ready` too.
-- Returns the steps moved, and whether the gate is open.
--
-- Locks: the queue's row, SKIP LOCKED: of two coordinators one fills a queue, or both would. Then steps by
-- id, SKIP LOCKED inside a materialized CTE. So it waits for nobody, and cannot be part of a deadlock though
-- it locks a queue before steps. Held steps are looked for whether the gate is open or not: one that a submit
-- was about to commit while the gate was opened is found by the next call. A repeat fills what room there is.
create or replace function tasker.top_up_queue(
    p_queue text, p_limit integer, p_now timestamptz, out moved bigint[], out gate_open boolean)
language plpgsql
volatile
as $$
declare
    v_queue tasker.queues;
    v_turn integer;
    v_room record;
    v_chosen bigint[] := '{}';
    v_left boolean;
begin
    moved := '{}';
    select * into v_queue
    from tasker.queues q
    where q.name = p_queue and q.paused_at is null
    for no key update skip locked;
    if not found then
        return;
    end if;
    v_turn := v_queue.dispatched % 10;
    select * into v_room from tasker.queue_room(p_queue);
    if v_room.published_ms >= v_room.bound_ms then
        gate_open := false;
        update tasker.queues q set gate_open = false where q.name = p_queue and v_queue.gate_open;
        return;
    end if;

    with by_priority as materialized (
        select id, template_id, ordinal, row_number() over (order by priority desc, ready_at) as n
        from (
            select id, template_id, ordinal, priority, ready_at
            from tasker.steps
            where queue = p_queue and ready_at is not null
            order by priority desc, ready_at
            limit p_limit
        ) first
    ),
    by_age as materialized (
        select id, template_id, ordinal, row_number() over (order by ready_at) as n
        from (
            select id, template_id, ordinal, ready_at
            from tasker.steps
            where queue = p_queue and ready_at is not null
            order by ready_at
            limit p_limit / 10 + 1
        ) oldest
    ),
    line as (
        -- of ten places, counted on from call to call, the tenth is the oldest's
        select id, template_id, ordinal, min(place) as place
        from (
            select id, template_id, ordinal, n + (n + v_turn - 1) / 9 as place from by_priority
            union all
            select id, template_id, ordinal, 10 * n - v_turn from by_age
        ) either
        group by id, template_id, ordinal
    ),
    work as (
        select l.id, row_number() over by_place as n,
            sum(tasker.step_cost(h.expected_ms)) over by_place as until_ms
        from line l
        cross join lateral (
            select handler
            from tasker.template_steps
            where template_id = l.template_id and ordinal = l.ordinal
            offset 0
        ) ts
        left join lateral (
            select expected_ms from tasker.handlers where name = ts.handler offset 0
        ) h on true
        window by_place as (order by l.place)
    ),
    fitting as materialized (
        select id, until_ms, n <= p_limit and v_room.published_ms + until_ms <= v_room.bound_ms as fits
        from work
    )
    select coalesce(array_agg(id) filter (where fits), '{}'),
        count(*) filter (where not fits) > 0 or count(*) filter (where fits) >= p_limit,
        v_room.published_ms + coalesce(max(until_ms) filter (where fits), 0)
    into v_chosen, v_left, v_room.published_ms
    from fitting;

    moved := array(
        with held as materialized (
            -- coalesce: by the index of held steps a plan would read all of them
            select id from tasker.steps
            where id = any (v_chosen) and state = 'ready' and coalesce(ready_at, 'infinity') < 'infinity'
            order by id
            for no key update skip locked
        )
        select id from held);
    with step as (
        update tasker.steps
        set state = 'enqueued', ready_at = null, enqueued_at = p_now, changed_at = p_now
        where id = any (moved)
        returning id, task_id, attempt
    )
    insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
    select task_id, id, 'ready', 'enqueued', attempt, p_now from step;

    gate_open := case
        when v_left or v_room.published_ms >= v_room.bound_ms then false
        when v_room.published_ms < v_room.bound_ms / 2 then true
        else v_queue.gate_open
    end;
    if cardinality(moved) > 0 or gate_open <> v_queue.gate_open then
        update tasker.queues q
        set gate_open = top_up_queue.gate_open, dispatched = q.dispatched + cardinality(moved)
        where q.name = p_queue;
    end if;
end
$$;
