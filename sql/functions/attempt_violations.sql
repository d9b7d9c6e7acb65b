-- Invariants of attempts, for invariant_violations, which explains p_since. Reads only, no locks.
--   in_progress_has_its_attempt   a step in progress has one open attempt: its own, under its claim
--   open_attempt_has_its_step     no other step has an open attempt
--   attempts_contiguous           attempts are numbered 1, 2, … up to the step's
--   attempt_outcome               an attempt has an outcome exactly when it has ended
--   claim_wins_once               a claim id wins a step once
--   completes_once                a step completes once
--   complete_by_its_last_attempt  a step is complete exactly when its last attempt completed
--   attempt_of_no_step            every attempt belongs to a step
create or replace function tasker.attempt_violations(p_since timestamptz)
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
        format('%s with attempt %s; %s attempts from %s to %s under %s claims, %s open, %s completed',
            s.state, s.attempt, a.n, a.first, a.last, a.claims, a.open, a.completed)
    from tasker.tasks t
    join tasker.steps s on s.task_id = t.id
    cross join lateral (
        select count(*) as n, coalesce(min(attempt), 1) as first, coalesce(max(attempt), 0) as last,
            count(distinct claim_id) as claims,
            count(*) filter (where finished_at is null) as open,
            count(*) filter (where finished_at is null and attempt = s.attempt and claim_id = s.claim_id
                and worker_id = s.worker_id) as own,
            count(*) filter (where (finished_at is null) <> (outcome is null)) as odd,
            count(*) filter (where outcome = 'complete') as completed,
            coalesce(bool_or(attempt = s.attempt and outcome = 'complete'), false) as last_completed
        from tasker.step_attempts
        where step_id = s.id
    ) a
    cross join lateral (values
        ('in_progress_has_its_attempt', s.state = 'in_progress' and (a.open <> 1 or a.own <> 1)),
        ('open_attempt_has_its_step', s.state <> 'in_progress' and a.open > 0),
        ('attempts_contiguous', (a.n, a.first, a.last) <> (s.attempt, 1, s.attempt)),
        ('attempt_outcome', a.odd > 0),
        ('claim_wins_once', a.claims < a.n),
        ('completes_once', a.completed > 1),
        ('complete_by_its_last_attempt', (s.state = 'complete') <> a.last_completed)
    ) v (invariant, broken)
    where v.broken and (p_since is null or t.finished_at is null or t.finished_at >= p_since);

    if p_since is null then
        return query
        select 'attempt_of_no_step', format('step %s, attempt %s', a.step_id, a.attempt),
            format('claimed at %s', a.claimed_at)
        from tasker.step_attempts a
        where not exists (select 1 from tasker.steps where id = a.step_id);
    end if;
end
$$;
