-- Steps in progress whose time is over and whose worker did not say so itself: each attempt fails as if its
-- handler had raised StepTimeout, and is retried by the step's policy. Returns the moves. Caller holds the
-- locks and knows that the time is over. A repeat finds no attempt open and changes nothing.
create or replace function tasker.record_timeouts(p_steps bigint[], p_now timestamptz)
returns tasker.step_move[]
language plpgsql
volatile
as $$
declare
    -- of the exception, by which a policy may forbid a retry; domain/errors.py
    v_classes constant text[] := array[
        'tasker.domain.errors.StepTimeout', 'tasker.domain.errors.TaskerError', 'Exception', 'BaseException'];
begin
    return tasker.record_failures((
        select coalesce(jsonb_agg(jsonb_build_object(
            'kind', 'failure', 'permanent', ts.retry -> 'never_for' ?| v_classes, 'step_id', s.id, 'attempt', s.attempt, 'claim_id', s.claim_id,
            'started_ms_ago', 1000 * extract(epoch from p_now - a.claimed_at),
            'error', jsonb_build_object(
                'type', 'tasker.StepTimeout',
                'message', format('%s ran longer than its %s s (timeout_seconds) and did not end when it was told',
                    s.name, (ts.timeout_ms / 1000.0)::float8),
                'traceback', ''))), '[]')
        from tasker.steps s
        cross join lateral (
            select timeout_ms, retry
            from tasker.template_steps
            where template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts
        cross join lateral (
            select claimed_at from tasker.step_attempts where step_id = s.id and attempt = s.attempt offset 0
        ) a
        where s.id = any (p_steps) and s.state = 'in_progress'), p_now);
end
$$;
