-- What an operator looks at first, as one document:
-- {"at",
--  "tasks": {"pending", "in_progress", "paused", "error", "with_failures"},
--  "steps": {"pending", "ready", "enqueued", "in_progress", "waiting_for_retry", "waiting", "error"},
--  "queues": [{"name", "paused", "gate_open", "workers", "enqueued", "oldest_enqueued_seconds", "ready",
--              "oldest_ready_seconds"}, …],
--  "due": {"later", "overdue", "overdue_seconds", "next_due_at"},
--  "workers": {"live", "children", "coordinators", "stopped_with_open_attempts", "attempts_of_stopped"},
--  "loops": {"seconds_since_last": n | null, "seconds_since": {loop: n, …}}}
-- tasks.error: settled with failed steps; tasks.with_failures: all that have a failed step, settled or not.
--
-- Read through the partial indexes of what is going on, so the cost is that of the work at hand and not of the
-- history. A paused task none of whose steps runs, is enqueued or is due has no access path: such tasks, their
-- ready and their pending steps are not counted. Everything else is exact.
-- Reads only, no locks; STABLE, so that all figures are of one snapshot.
create or replace function tasker.system_health_counts()
returns json
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_queues json;
    v_enqueued bigint;
    v_held bigint;
    v_due record;
    v_attempts record;
    v_tasks record;
    v_failures record;
begin
    with enqueued as materialized (
        select queue, count(*) as n, min(enqueued_at) as oldest
        from tasker.steps
        where enqueued_at is not null
        group by queue
    ),
    held as materialized (
        select queue, count(*) as n, min(ready_at) as oldest
        from tasker.steps
        where ready_at is not null
        group by queue
    )
    select coalesce(sum(e.n), 0), coalesce(sum(h.n), 0), coalesce(json_agg(json_build_object(
            'name', q.name, 'paused', q.paused_at is not null, 'gate_open', q.gate_open,
            'workers', (
                select count(*)
                from tasker.workers
                where stopped_at is null and kind = 'main' and q.name = any (queues)),
            'enqueued', coalesce(e.n, 0),
            'oldest_enqueued_seconds', extract(epoch from v_now - e.oldest),
            'ready', coalesce(h.n, 0),
            'oldest_ready_seconds', extract(epoch from v_now - h.oldest)
        ) order by q.name), '[]')
    into v_enqueued, v_held, v_queues
    from tasker.queues q
    left join enqueued e on e.queue = q.name
    left join held h on h.queue = q.name;

    select count(*) filter (where state = 'ready') as given_back,
        count(*) filter (where state = 'waiting_for_retry') as waiting_for_retry,
        count(*) filter (where state = 'waiting') as waiting,
        count(*) filter (where run_after > v_now) as later,
        count(*) filter (where run_after <= v_now) as overdue,
        min(run_after) filter (where run_after > v_now) as next,
        extract(epoch from v_now - min(run_after) filter (where run_after <= v_now)) as overdue_seconds
    into v_due
    from tasker.steps
    where run_after is not null;

    select coalesce(sum(a.n), 0) as open, coalesce(sum(a.n) filter (where w.stopped), 0) as of_stopped,
        count(*) filter (where w.stopped) as stopped
    into v_attempts
    from (
        select worker_id, count(*) as n
        from tasker.step_attempts
        where finished_at is null
        group by worker_id
    ) a
    left join lateral (
        select own.stopped_at is not null or main.stopped_at is not null as stopped
        from tasker.workers own
        left join tasker.workers main on main.id = own.parent_id
        where own.id = a.worker_id
        offset 0
    ) w on true;

    select count(*) filter (where t.state = 'pending') as pending,
        count(*) filter (where t.state = 'in_progress') as in_progress,
        count(*) filter (where t.state = 'paused') as paused,
        coalesce(sum(t.steps_open - t.steps_active - t.steps_failed), 0) as steps_pending
    into v_tasks
    from (
        select task_id from tasker.steps where enqueued_at is not null
        union
        select task_id from tasker.steps where ready_at is not null
        union
        select task_id from tasker.steps where run_after is not null
        union
        select s.task_id
        from tasker.step_attempts a
        cross join lateral (
            select task_id from tasker.steps where id = a.step_id offset 0
        ) s
        where a.finished_at is null
        union
        select id from tasker.tasks where steps_failed > 0
    ) live
    cross join lateral (
        select state, steps_open, steps_active, steps_failed from tasker.tasks where id = live.task_id offset 0
    ) t;

    select count(*) filter (where state = 'error') as in_error, count(*) as tasks,
        coalesce(sum(steps_failed), 0) as steps
    into v_failures
    from tasker.tasks
    where steps_failed > 0;

    return json_build_object(
        'at', v_now,
        'tasks', json_build_object('pending', v_tasks.pending, 'in_progress', v_tasks.in_progress,
            'paused', v_tasks.paused, 'error', v_failures.in_error, 'with_failures', v_failures.tasks),
        'steps', json_build_object('pending', v_tasks.steps_pending, 'ready', v_held + v_due.given_back,
            'enqueued', v_enqueued, 'in_progress', v_attempts.open,
            'waiting_for_retry', v_due.waiting_for_retry, 'waiting', v_due.waiting,
            'error', v_failures.steps),
        'queues', v_queues,
        'due', json_build_object('later', v_due.later, 'overdue', v_due.overdue,
            'overdue_seconds', v_due.overdue_seconds, 'next_due_at', v_due.next),
        'workers', (
            select json_build_object(
                'live', count(*) filter (where kind = 'main'),
                'children', count(*) filter (where kind = 'child'),
                'coordinators', count(*) filter (where kind = 'coordinator'),
                'stopped_with_open_attempts', v_attempts.stopped,
                'attempts_of_stopped', v_attempts.of_stopped)
            from tasker.workers
            where stopped_at is null),
        'loops', (
            select json_build_object(
                'seconds_since_last', extract(epoch from v_now - max(ran_at)),
                'seconds_since', coalesce(
                    json_object_agg(name, extract(epoch from v_now - ran_at)) filter (where name is not null),
                    '{}'))
            from tasker.coordinator_loops));
end
$$;
