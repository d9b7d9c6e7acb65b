-- Invariants of the lifecycle log, for invariant_violations, which explains p_since. Reads only, no locks.
--   log_chain         a move starts where the one before it ended; a step created `pending` starts there
--   log_move          the table of moves has it
--   log_ends_in_state the last move of a task or step ended in the state that it has
--   log_missing       a task, and a step that is not pending, has an entry
--   log_of_nothing    every entry belongs to a task and to a step of that task
create or replace function tasker.log_violations(p_since timestamptz)
returns table (invariant text, entity text, detail text)
language plpgsql
stable
set plan_cache_mode = force_custom_plan
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_legal constant text[] := array(
        select concat_ws(' ', entity, coalesce(from_state, 'new'), to_state) from tasker.legal_moves());
begin
    return query
    select v.invariant, concat_ws('/', t.id, s.name),
        format('seq %s: %s to %s, after %s; the state is %s', l.seq, coalesce(l.from_state, 'new'), l.to_state,
            coalesce(l.before, 'nothing'), coalesce(s.state, t.state))
    from tasker.tasks t
    cross join lateral (
        select *, lag(to_state) over entry as before, lead(seq) over entry is null as last
        from tasker.transitions
        where task_id = t.id
        window entry as (partition by step_id order by seq)
    ) l
    left join tasker.steps s on s.id = l.step_id
    cross join lateral (values
        ('log_chain', case
            when l.before is not null then l.from_state is distinct from l.before
            else l.from_state is not null and (l.step_id is null or l.from_state <> 'pending')
        end),
        ('log_move', not concat_ws(' ', case when l.step_id is null then 'task' else 'step' end,
            coalesce(l.from_state, 'new'), l.to_state) = any (v_legal)),
        ('log_ends_in_state', l.last
            and l.to_state <> case when l.step_id is null then t.state else s.state end),
        ('log_of_nothing', l.step_id is not null and s.task_id is distinct from t.id)
    ) v (invariant, broken)
    where v.broken and (p_since is null or t.finished_at is null or t.finished_at >= p_since);

    return query
    select 'log_missing', concat_ws('/', t.id, s.name), format('it is %s', coalesce(s.state, t.state))
    from tasker.tasks t
    cross join lateral (
        (select null::bigint union all select id from tasker.steps where task_id = t.id and state <> 'pending')
        except
        select step_id from tasker.transitions where task_id = t.id
    ) unlogged (step_id)
    left join tasker.steps s on s.id = unlogged.step_id
    where p_since is null or t.finished_at is null or t.finished_at >= p_since;

    if p_since is null then
        return query
        select 'log_of_nothing', format('seq %s', l.seq), format('task %s, step %s', l.task_id, l.step_id)
        from tasker.transitions l
        where not exists (select 1 from tasker.tasks where id = l.task_id);
    end if;
end
$$;
