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
        select coalesce(json_agg(won), '[]')
        from (
            select s.id, s.task_id, s.name, ts.handler, s.attempt, s.failures, ts.max_attempts,
                ts.retry -> 'never_for' as never_for, ts.timeout_ms, ts.config, s.queue, ts.parents,
                ts.transactional, r.results
            from tasker.steps s
            cross join lateral (
                select handler, max_attempts, retry, timeout_ms, config, parents, transactional
                from tasker.template_steps
                where template_id = s.template_id and ordinal = s.ordinal
                offset 0
            ) ts
            -- not by parent_results: a call for each step costs more than all the rest
            left join lateral (
                select coalesce(json_object_agg(p.name, a.result), '{}') as results
                from tasker.step_edges e
                cross join lateral (
                    select id, name, attempt from tasker.steps where id = e.parent_id offset 0
                ) p
                left join lateral (
                    select result
                    from tasker.step_attempts
                    where step_id = p.id and attempt = p.attempt and outcome = 'complete'
                    offset 0
                ) a on true
                where e.child_id = s.id
                offset 0
            ) r on ts.parents between 1 and 100
            where s.id = any (p_steps) and s.claim_id = p_claim and s.state = 'in_progress'
            order by s.id
        ) won
    );
end
$$;
