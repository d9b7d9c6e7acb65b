-- Invariants of steps, for invariant_violations, which explains p_since. Reads only, no locks.
--   parents_left            of an unfinished step is the number of its parents not satisfied
--   wake_up_lost            a pending step has a parent not satisfied
--   started_before_parents  a step that is active has none
--   held_without_return     a ready step has a time at which it is looked at again, unless its task is paused
--   enqueued_at             set exactly while enqueued
--   ready_at                set only while ready
--   run_after               set while waiting and waiting_for_retry, else only for a ready step given back
--   start_by                set only while enqueued or ready, and then if its template says so
--   claim                   a step in progress names its claim and its worker
--   failures                are no more than its policy allows
--   definition              template_steps has the step
--   queue                   of an unfinished step is known, or no loop would ever look at it
create or replace function tasker.step_violations(p_since timestamptz)
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
    select v.invariant, s.task_id || '/' || s.name,
        format('%s on queue %s in a task %s; parents_left %s, open parents %s; failures %s of %s; '
            'run_after %s, ready_at %s, enqueued_at %s; claim %s of worker %s',
            s.state, s.queue, t.state, s.parents_left, parents.open, s.failures,
            coalesce(ts.max_attempts::text, 'null'), coalesce(s.run_after::text, 'null'),
            coalesce(s.ready_at::text, 'null'), coalesce(s.enqueued_at::text, 'null'),
            coalesce(s.claim_id::text, 'null'), coalesce(s.worker_id::text, 'null'))
    from tasker.tasks t
    join tasker.steps s on s.task_id = t.id
    left join tasker.template_steps ts on ts.template_id = s.template_id and ts.ordinal = s.ordinal
    left join tasker.queues q on q.name = s.queue
    cross join lateral (
        select s.state not in ('complete', 'skipped', 'cancelled', 'resolved_manually') as unfinished
    ) its
    cross join lateral (
        select count(*) as open
        from tasker.step_edges e
        cross join lateral (
            select state from tasker.steps where id = e.parent_id offset 0
        ) p
        where its.unfinished and e.child_id = s.id
          and p.state not in ('complete', 'skipped', 'resolved_manually')
    ) parents
    cross join lateral (values
        ('parents_left', its.unfinished and s.parents_left <> parents.open),
        ('wake_up_lost', s.state = 'pending' and parents.open = 0),
        ('started_before_parents', its.unfinished and s.state not in ('pending', 'error') and parents.open > 0),
        ('held_without_return', s.state = 'ready' and s.ready_at is null and s.run_after is null
            and t.state <> 'paused'),
        ('enqueued_at', (s.state = 'enqueued') <> (s.enqueued_at is not null)),
        ('ready_at', s.ready_at is not null and s.state <> 'ready'),
        ('run_after', case
            when s.state in ('waiting', 'waiting_for_retry') then s.run_after is null
            else s.run_after is not null and s.state <> 'ready'
        end),
        ('start_by', (s.start_by is not null)
            <> (s.state in ('ready', 'enqueued') and s.start_within_ms is not null)),
        ('claim', s.state = 'in_progress' and (s.claim_id is null or s.worker_id is null)),
        ('failures', s.failures > ts.max_attempts),
        ('definition', ts.name is distinct from s.name),
        ('queue', its.unfinished and q.name is null)
    ) v (invariant, broken)
    where v.broken and (p_since is null or t.finished_at is null or t.finished_at >= p_since);
end
$$;
