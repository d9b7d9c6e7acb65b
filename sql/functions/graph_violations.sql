-- Invariants of edges, for invariant_violations, which explains p_since. Reads only, no locks.
--   edge_in_one_task   parent and child are steps of the same task
--   edge_has_ends      both exist
--   acyclic            following the edges never leads back
create or replace function tasker.graph_violations(p_since timestamptz)
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
    select v.invariant, c.task_id || '/' || c.name, format('edge %s to %s', e.parent_id, e.child_id)
    from tasker.tasks t
    join tasker.steps c on c.task_id = t.id
    join tasker.step_edges e on e.child_id = c.id
    left join tasker.steps p on p.id = e.parent_id
    cross join lateral (values
        ('edge_in_one_task', p.task_id <> c.task_id),
        ('edge_has_ends', p.id is null)
    ) v (invariant, broken)
    where v.broken and (p_since is null or t.finished_at is null or t.finished_at >= p_since);

    -- Ids are drawn in the order of ordinals, so a graph whose edges all lead to higher ids has no cycle.
    return query
    select 'acyclic', suspect.task_id || '/' || l.name, 'on a cycle, or behind one'
    from (
        select distinct c.task_id
        from tasker.tasks t
        join tasker.steps c on c.task_id = t.id
        join tasker.step_edges e on e.child_id = c.id
        where e.parent_id >= e.child_id
          and (p_since is null or t.finished_at is null or t.finished_at >= p_since)
    ) suspect
    cross join lateral tasker.dependency_levels(suspect.task_id) l
    where l.level is null;

    if p_since is null then
        return query
        select 'edge_has_ends', format('step %s', e.child_id), format('edge %s to %s', e.parent_id, e.child_id)
        from tasker.step_edges e
        where not exists (select 1 from tasker.steps where id = e.child_id);
    end if;
end
$$;
