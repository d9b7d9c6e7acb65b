-- The transitions one call wrote, for in-process signals: those of p_tasks after sequence value p_mark
-- that carry the call's own time. [{"seq", "task_id", "template", "step_id", "step", "from", "to",
-- "attempt", "at", "actor", "reason"}, …] in seq order. Reads only; a repeat of a call has written none and gets [].
create or replace function tasker.moves_since(p_tasks uuid[], p_mark bigint, p_at timestamptz)
returns json
language plpgsql
volatile
as $$
begin
    return (
        select coalesce(json_agg(json_build_object(
            'seq', tr.seq, 'task_id', tr.task_id, 'template', t.namespace || '/' || t.name,
            'step_id', tr.step_id, 'step', s.name, 'from', tr.from_state, 'to', tr.to_state,
            'attempt', tr.attempt, 'at', tr.at, 'actor', tr.actor, 'reason', tr.reason
        ) order by tr.seq), '[]')
        from tasker.transitions tr
        cross join lateral (
            select namespace, name from tasker.tasks where id = tr.task_id offset 0
        ) t
        left join lateral (
            select name from tasker.steps where id = tr.step_id offset 0
        ) s on true
        where tr.task_id = any (p_tasks) and tr.seq > p_mark and tr.at = p_at
    );
end
$$;
