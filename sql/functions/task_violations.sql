-- Invariants of tasks, for invariant_violations, which explains p_since. Reads only, no locks.
--   task_counters            steps_total, open, active and failed are what the steps make
--   final_task_is_closed     complete, cancelled and resolved_manually tasks have no open step
--   open_task_has_steps_open any other task has one
--   task_can_move            with steps open, something is active or has failed; in_progress: active
--   task_in_error            error means a failed step and nothing active
--   task_run_after           set exactly while pending
--   task_finished_at         set exactly while settled
--   idempotency_key          belongs to one task of a template
create or replace function tasker.task_violations(p_since timestamptz)
returns table (invariant text, entity text, detail text)
language plpgsql
stable
set plan_cache_mode = force_custom_plan
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    return query
    select v.invariant, t.id::text,
        format('%s with (total, open, active, failed) (%s, %s, %s, %s), its steps make (%s, %s, %s, %s); '
            'run_after %s, finished_at %s',
            t.state, t.steps_total, t.steps_open, t.steps_active, t.steps_failed,
            n.total, n.open, n.active, n.failed, coalesce(t.run_after::text, 'null'),
            coalesce(t.finished_at::text, 'null'))
    from tasker.tasks t
    cross join lateral (
        select count(*) as total,
            count(*) filter (
                where state not in ('complete', 'skipped', 'cancelled', 'resolved_manually')) as open,
            count(*) filter (where state in (
                'ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting')) as active,
            count(*) filter (where state = 'error') as failed
        from tasker.steps
        where task_id = t.id
    ) n
    cross join lateral (values
        ('task_counters', (t.steps_total, t.steps_open, t.steps_active, t.steps_failed)
            <> (n.total, n.open, n.active, n.failed)),
        ('final_task_is_closed', t.state in ('complete', 'cancelled', 'resolved_manually') and n.open > 0),
        ('open_task_has_steps_open', t.state in ('pending', 'in_progress', 'paused', 'error') and n.open = 0),
        ('task_can_move', n.open > 0 and n.active = 0 and (n.failed = 0 or t.state = 'in_progress')),
        ('task_in_error', t.state = 'error' and (n.failed = 0 or n.active > 0)),
        ('task_run_after', (t.state = 'pending') <> (t.run_after is not null)),
        ('task_finished_at', (t.state in ('complete', 'error', 'cancelled', 'resolved_manually'))
            <> (t.finished_at is not null))
    ) v (invariant, broken)
    where v.broken and (p_since is null or t.finished_at is null or t.finished_at >= p_since);

    return query
    select 'idempotency_key', t.namespace || '/' || t.name,
        format('key %s belongs to %s tasks', t.idempotency_key, count(*))
    from tasker.tasks t
    where t.idempotency_key is not null
      and (p_since is null or t.finished_at is null or t.finished_at >= p_since)
    group by t.namespace, t.name, t.idempotency_key
    having count(*) > 1;
end
$$;
