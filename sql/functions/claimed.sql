-- The steps of p_steps in progress under p_claim, with all a worker needs to run them: [{"id", "task_id",
-- "name", "handler", "attempt" (of the claim), "failures", "max_attempts", "never_for", "timeout_ms",
-- "config", "queue", "parents", "transactional", "results": {parent: result} | null}, …] by id. `results` is null for more
-- than 100 parents; the worker then reads parent_results when the handler asks. A parent skipped or resolved
-- without a result gives null. Reads only; the answer of claim_steps and finish_steps, so that a repeat of
-- either returns the same rows.
create or replace function tasker.claimed(p_steps bigint[], p_claim uuid)
returns json
language plpgsql
volatile
as $$
begin
    return (
        select coalesce(json_agg(json_build_object(
            'id', s.id, 'task_id', s.task_id, 'name', s.name, 'handler', ts.handler,
            'attempt', s.attempt, 'failures', s.failures, 'max_attempts', ts.max_attempts,
            'never_for', ts.retry -> 'never_for', 'timeout_ms', ts.timeout_ms, 'config', ts.config,
            'queue', s.queue, 'parents', ts.parents, 'transactional', ts.transactional,
            'results', case when ts.parents between 1 and 100 then tasker.parent_results(s.id) end
        ) order by s.id), '[]')
        from tasker.steps s
        cross join lateral (
            select handler, max_attempts, retry, timeout_ms, config, parents, transactional
            from tasker.template_steps
            where template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts
        where s.id = any (p_steps) and s.claim_id = p_claim and s.state = 'in_progress'
    );
end
$$;
