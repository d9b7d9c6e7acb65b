-- Writes the dead letters of steps that have just become error, in the transaction that moved them.
--
-- p_reason: a reason of tasker.dead_letters. The error is what the handler raised in the step's last attempt
-- for `exhausted` and `permanent`, else {"type", "message": p_words}; the type is DeadlineExceeded for `deadline`,
-- StartTimeout for `start_timeout`, otherwise p_reason.
-- The snapshot is what an operator needs when nothing else may be left to look at: template, version, step,
-- handler, queue, attempt, failures, losses, the states of at most 100 parents by name, and of the task's
-- context its size in bytes and its SHA-256; the context itself is confidential and stays with the task.
--
-- Caller holds the steps' locks. A step that has an open letter keeps it, so a repeat writes nothing.
create or replace function tasker.bury_steps(
    p_steps bigint[], p_reason text, p_words text, p_now timestamptz)
returns void
language plpgsql
volatile
as $$
begin
    insert into tasker.dead_letters (task_id, step_id, reason, fingerprint, error, snapshot, created_at)
    select s.task_id, s.id, p_reason, tasker.error_fingerprint(e.error), e.error,
        jsonb_build_object(
            'template', t.namespace || '/' || t.name, 'version', tp.version, 'step', s.name,
            'handler', ts.handler, 'queue', s.queue,
            'attempt', s.attempt, 'failures', s.failures, 'losses', s.losses,
            'context_bytes', octet_length(t.context::text),
            'context_sha256', encode(sha256(convert_to(t.context::text, 'UTF8')), 'hex'),
            'parents', p.states),
        p_now
    from tasker.steps s
    cross join lateral (
        select template_id, namespace, name, context from tasker.tasks where id = s.task_id offset 0
    ) t
    cross join lateral (
        select version from tasker.templates where id = t.template_id offset 0
    ) tp
    cross join lateral (
        select handler
        from tasker.template_steps
        where template_id = s.template_id and ordinal = s.ordinal
        offset 0
    ) ts
    left join lateral (
        select error
        from tasker.step_attempts
        where step_id = s.id and attempt = s.attempt and p_reason in ('exhausted', 'permanent')
        offset 0
    ) a on true
    cross join lateral (
        select coalesce(
            a.error,
            jsonb_build_object(
                'type', case p_reason
                    when 'deadline' then 'DeadlineExceeded'
                    when 'start_timeout' then 'StartTimeout'
                    else p_reason
                end,
                'message', coalesce(p_words, 'no error was reported'))) as error
    ) e
    cross join lateral (
        select coalesce(jsonb_object_agg(name, state), '{}') as states
        from (
            select parent.name, parent.state
            from tasker.step_edges edge
            cross join lateral (
                select name, state, ordinal from tasker.steps where id = edge.parent_id offset 0
            ) parent
            where edge.child_id = s.id
            order by parent.ordinal
            limit 100
        ) first
    ) p
    where s.id = any (p_steps)
    on conflict (step_id) where closed_at is null do nothing;
end
$$;
