-- Invariants of dead letters, for invariant_violations, which explains p_since. Reads only, no locks.
--   error_has_its_letter      a step in error has an open dead letter
--   open_letter_has_its_error no other step has one, nor what is no step
create or replace function tasker.letter_violations(p_since timestamptz)
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
    select 'error_has_its_letter', s.task_id || '/' || s.name, format('in error since %s', s.changed_at)
    from tasker.tasks t
    join tasker.steps s on s.task_id = t.id
    where t.steps_failed > 0 and s.state = 'error'
      and (p_since is null or t.finished_at is null or t.finished_at >= p_since)
      and not exists (
          select 1 from tasker.dead_letters l where l.step_id = s.id and l.closed_at is null);

    return query
    select 'open_letter_has_its_error', coalesce(s.task_id || '/' || s.name, format('step %s', l.step_id)),
        format('dead letter %s (%s) is open; the step is %s', l.id, l.reason, coalesce(s.state, 'missing'))
    from tasker.dead_letters l
    left join tasker.steps s on s.id = l.step_id and s.task_id = l.task_id
    where l.closed_at is null and l.step_id is not null and coalesce(s.state, 'missing') <> 'error';
end
$$;
