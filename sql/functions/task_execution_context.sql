-- What an operator wants to know of tasks beyond their state, computed from their steps.
--
-- execution_status, the first that holds:
--   all_complete              no step is open (complete, cancelled and resolved_manually tasks)
--   paused                    by an operator; what runs already runs on
--   processing                a step is in progress
--   has_ready_steps           steps may run and wait for a worker, or are held with their queue
--   waiting_for_retry         nothing else than retries, which come at next_due_at or later
--   waiting_for_signal        a timer or a signal; a task that starts later waits here for its time
--   blocked_by_failures       the rest waits for failed steps
--   waiting_for_dependencies  steps wait though nothing runs and nothing failed: a violation
-- recommended_action: none, resume_task, wait_for_completion, wait_for_workers, wait_until_due,
--   handle_failures, run_doctor.
-- health_status: healthy; recovering, steps wait for a retry; degraded, a step failed and others go on;
--   blocked, nothing goes on without an operator.
-- completion_percentage: complete, skipped and resolved_manually steps of all; 100 only when that is all.
-- steps_by_state: {state: n}, every state named.
--
-- A task that does not exist is absent. Reads only, no locks, one statement. Linear in the steps of p_tasks.
create or replace function tasker.task_execution_context(p_tasks uuid[])
returns table (
    task_id uuid, state text, execution_status text, recommended_action text, health_status text,
    completion_percentage numeric, steps_total integer, steps_by_state jsonb, next_due_at timestamptz)
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    return query
    select t.id, t.state::text, status.name,
        case status.name
            when 'all_complete' then 'none'
            when 'paused' then 'resume_task'
            when 'processing' then 'wait_for_completion'
            when 'has_ready_steps' then 'wait_for_workers'
            when 'blocked_by_failures' then 'handle_failures'
            when 'waiting_for_dependencies' then 'run_doctor'
            else 'wait_until_due'
        end,
        case
            when status.name in ('blocked_by_failures', 'waiting_for_dependencies') then 'blocked'
            when n.error > 0 and status.name <> 'all_complete' then 'degraded'
            when n.waiting_for_retry > 0 then 'recovering'
            else 'healthy'
        end,
        trunc(100.0 * (n.complete + n.skipped + n.resolved_manually) / n.total, 2),
        n.total,
        jsonb_build_object(
            'pending', n.pending, 'ready', n.ready, 'enqueued', n.enqueued, 'in_progress', n.in_progress,
            'waiting_for_retry', n.waiting_for_retry, 'waiting', n.waiting, 'complete', n.complete,
            'skipped', n.skipped, 'error', n.error, 'cancelled', n.cancelled,
            'resolved_manually', n.resolved_manually),
        n.next_due_at
    from unnest(p_tasks) asked (id)
    cross join lateral (
        select id, state from tasker.tasks where id = asked.id offset 0
    ) t
    cross join lateral (
        select count(*)::integer as total,
            count(*) filter (where state = 'pending') as pending,
            count(*) filter (where state = 'ready') as ready,
            count(*) filter (where state = 'enqueued') as enqueued,
            count(*) filter (where state = 'in_progress') as in_progress,
            count(*) filter (where state = 'waiting_for_retry') as waiting_for_retry,
            count(*) filter (where state = 'waiting') as waiting,
            count(*) filter (where state = 'complete') as complete,
            count(*) filter (where state = 'skipped') as skipped,
            count(*) filter (where state = 'error') as error,
            count(*) filter (where state = 'cancelled') as cancelled,
            count(*) filter (where state = 'resolved_manually') as resolved_manually,
            min(run_after) filter (where state in ('waiting', 'waiting_for_retry')) as next_due_at
        from tasker.steps
        where task_id = t.id
    ) n
    cross join lateral (
        select case
            when n.pending + n.ready + n.enqueued + n.in_progress + n.waiting_for_retry + n.waiting
                + n.error = 0 then 'all_complete'
            when t.state = 'paused' then 'paused'
            when n.in_progress > 0 then 'processing'
            when n.ready + n.enqueued > 0 then 'has_ready_steps'
            when n.waiting_for_retry > 0 then 'waiting_for_retry'
            when n.waiting > 0 then 'waiting_for_signal'
            when n.error > 0 then 'blocked_by_failures'
            else 'waiting_for_dependencies'
        end as name
    ) status
    order by t.id;
end
$$;
