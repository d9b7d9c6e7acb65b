-- Explains every step of p_tasks: whether it may run, and if it does not, everything it waits for. Read from
-- the edges, the attempts and the workers, never from the counters it may be asked to account for.
--
-- dependencies_satisfied  every parent is complete, skipped or resolved_manually
-- retry_eligible          unfinished, and its policy allows one more attempt (after the one that runs)
-- ready_for_execution     nothing in the graph, in time, in its task or its queue holds it back; whether a
--                         worker is there to run it is another question, answered by blocking_reasons
-- next_retry_at, due_at   due time of a retry; due time of whatever state has one
-- blocking_parents        [{"name", "state"}, …], at most 10, failed ones first
-- failed_because          the reason of the dead letter of a step in error, letter_id and fingerprint of which
--                         come along; error_type and error_message are its error's, for waiting_for_retry
--                         those of the last attempt
-- at                      the time to which all of this refers
-- blocking_reasons        empty for a final step, else these, the decisive one first:
--   running               a live worker has it
--   worker_stopped        its worker was stopped; recover_steps takes it back
--   failed, worker_lost, unclaimable, deadline, start_timeout, parked   in error: by its handler, by killing its
--                         workers, by never being claimed, by its task's deadline, by not being begun in time,
--                         by an operator
--   parent_failed         a parent is in error
--   parents_open          a parent is not satisfied
--   task_not_started      its task waits for its own due time
--   task_paused           its task is paused
--   wake_up_lost          nothing holds it back and nothing will start it: a violation
--   back_off, timer       due later, as a retry or otherwise
--   overdue               due already; due_steps moves it
--   queue_paused          held with its queue
--   no_worker_for_queue   no live worker takes messages from its queue
--   no_worker_for_handler live workers of its queue lack its handler
--   given_back            a worker without its handler gave it back; offered again at due_at
--   queue_gated           so much of its queue is published that it waits for its turn
--   undispatched          held no longer; dispatch_steps enqueues it
--   message_out           enqueued: a worker takes it, or republish_steps sends its message again
--
-- Reads only, no locks. STABLE, so that all its statements see the one snapshot of the calling query; nobody
-- moves a step because of what it says. Linear in the steps, edges and log of p_tasks.
create or replace function tasker.step_readiness(p_tasks uuid[])
returns table (
    task_id uuid, step_id bigint, name text, state text, handler text, queue text,
    parents_total integer, parents_satisfied integer, blocking_parents jsonb,
    attempt integer, failures integer, max_attempts integer, republished integer,
    error_type text, error_message text, failed_because text, letter_id bigint, fingerprint text,
    dependencies_satisfied boolean, retry_eligible boolean, ready_for_execution boolean,
    next_retry_at timestamptz, due_at timestamptz, since timestamptz,
    worker_id integer, worker_host text, worker_pid integer, timeout_ms integer,
    blocking_reasons text[], at timestamptz)
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := tasker.clock();
begin
    return query
    with step as materialized (
        select s.*, s.state in ('complete', 'skipped', 'cancelled', 'resolved_manually') as final,
            s.state in ('pending', 'ready', 'enqueued', 'waiting_for_retry', 'waiting') as idle,
            t.state as task_state, ts.handler, ts.max_attempts, ts.timeout_ms,
            coalesce(q.paused_at is not null, false) as queue_paused,
            not coalesce(q.gate_open, true) as queue_gated
        from tasker.steps s
        cross join lateral (
            select state from tasker.tasks where id = s.task_id offset 0
        ) t
        cross join lateral (
            select handler, max_attempts, timeout_ms
            from tasker.template_steps
            where template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts
        left join lateral (
            select paused_at, gate_open from tasker.queues where name = s.queue offset 0
        ) q on true
        where s.task_id = any (p_tasks)
    )
    select s.task_id, s.id, s.name, s.state::text, s.handler, s.queue,
        parents.total, parents.satisfied, coalesce(blocking.parents, '[]'),
        s.attempt, s.failures, s.max_attempts, s.republished,
        error.shown ->> 'type', left(error.shown ->> 'message', 500), letter.reason, letter.id,
        letter.fingerprint,
        parents.satisfied = parents.total,
        s.idle and s.failures < s.max_attempts
            or s.state = 'in_progress' and s.failures + 1 < s.max_attempts,
        s.idle and parents.satisfied = parents.total and s.task_state = 'in_progress'
            and not s.queue_paused and (s.state = 'enqueued' or not s.queue_gated)
            and (s.state not in ('waiting', 'waiting_for_retry') or s.run_after <= v_now),
        case when s.state = 'waiting_for_retry' then s.run_after end, s.run_after, s.changed_at,
        w.id, w.host, w.pid, s.timeout_ms, reasons.codes, v_now
    from step s
    cross join lateral (
        select count(*)::integer as total,
            (count(*) filter (where p.state in ('complete', 'skipped', 'resolved_manually')))::integer
                as satisfied,
            coalesce(bool_or(p.state = 'error'), false) as failed
        from tasker.step_edges e
        cross join lateral (
            select state from tasker.steps where id = e.parent_id offset 0
        ) p
        where e.child_id = s.id
    ) parents
    left join lateral (
        select jsonb_agg(jsonb_build_object('name', p.name, 'state', p.state)) as parents
        from (
            select p.name, p.state
            from tasker.step_edges e
            cross join lateral (
                select ordinal, name, state from tasker.steps where id = e.parent_id offset 0
            ) p
            where e.child_id = s.id and not s.final and parents.satisfied < parents.total
              and p.state not in ('complete', 'skipped', 'resolved_manually')
            order by p.state <> 'error', p.ordinal
            limit 10
        ) p
    ) blocking on true
    left join lateral (
        select error
        from tasker.step_attempts
        where step_id = s.id and attempt = s.attempt and not s.final
        offset 0
    ) a on true
    left join lateral (
        select id, reason, fingerprint, error
        from tasker.dead_letters
        where step_id = s.id and closed_at is null and s.state = 'error'
        offset 0
    ) letter on true
    cross join lateral (
        select coalesce(letter.error, a.error) as shown
    ) error
    left join lateral (
        select own.id, own.host, own.pid, own.stopped_at is null and main.stopped_at is null as live
        from tasker.workers own
        left join tasker.workers main on main.id = own.parent_id
        where own.id = s.worker_id and s.state = 'in_progress'
        offset 0
    ) w on true
    cross join lateral (
        select count(*) > 0 as for_queue, coalesce(bool_or(s.handler = any (handlers)), false) as for_handler
        from tasker.workers
        where stopped_at is null and kind = 'main' and s.queue = any (queues)
          and s.state in ('ready', 'enqueued')
    ) workers
    cross join lateral (
        select array_remove(array[
            case when s.state = 'in_progress' and w.live then 'running' end,
            case when s.state = 'in_progress' and w.live is not true then 'worker_stopped' end,
            case
                when s.state <> 'error' then null
                when letter.reason in ('worker_lost', 'unclaimable', 'deadline', 'start_timeout', 'parked')
                then letter.reason
                else 'failed'
            end,
            case when s.idle and parents.failed then 'parent_failed' end,
            case when s.idle and parents.satisfied < parents.total then 'parents_open' end,
            case when s.idle and s.task_state = 'pending' then 'task_not_started' end,
            case when s.idle and s.task_state = 'paused' then 'task_paused' end,
            case
                when s.state = 'pending' and parents.satisfied = parents.total
                    or s.state = 'ready' and s.ready_at is null and s.run_after is null
                    and s.task_state <> 'paused'
                then 'wake_up_lost'
            end,
            case when s.state = 'waiting_for_retry' and s.run_after > v_now then 'back_off' end,
            case
                when s.state = 'waiting' and s.run_after > v_now and s.task_state <> 'pending' then 'timer'
            end,
            case when s.state in ('waiting', 'waiting_for_retry') and s.run_after <= v_now then 'overdue' end,
            case when s.state in ('ready', 'enqueued') and s.queue_paused then 'queue_paused' end,
            case when s.state in ('ready', 'enqueued') and not workers.for_queue then 'no_worker_for_queue' end,
            case
                when s.state in ('ready', 'enqueued') and workers.for_queue and not workers.for_handler
                then 'no_worker_for_handler'
            end,
            case when s.state = 'ready' and s.run_after is not null then 'given_back' end,
            case when s.state = 'ready' and s.ready_at is not null and s.queue_gated then 'queue_gated' end,
            case
                when s.state = 'ready' and s.ready_at is not null
                    and not s.queue_paused and not s.queue_gated
                then 'undispatched'
            end,
            case when s.state = 'enqueued' then 'message_out' end
        ], null) as codes
    ) reasons
    order by s.task_id, s.ordinal;
end
$$;
