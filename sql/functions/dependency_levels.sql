-- The steps of a task by their longest way from a root: roots are on level 0, every other step one below the
-- lowest of its parents. Null for steps on a cycle and those behind one, which invariant_violations reports.
--
-- Kahn's algorithm, one query a level: a step is reached once all its parents were, so every edge is read
-- once. A recursive CTE cannot do that: it visits a step again for every length of a way that leads to it.
-- Reads only, no locks; STABLE, so that all levels are of one snapshot.
create or replace function tasker.dependency_levels(p_task uuid)
returns table (step_id bigint, name text, level integer)
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    -- per step, in the order of ordinals, which have no gaps: parents not reached yet, and the level
    v_waits integer[] := array(
        select parents.n
        from tasker.steps s
        cross join lateral (
            select count(*)::integer as n from tasker.step_edges where child_id = s.id
        ) parents
        where s.task_id = p_task
        order by s.ordinal);
    v_levels integer[] := array(
        select case when waits = 0 then 0 end from unnest(v_waits) with ordinality w (waits, n) order by n);
    v_reached bigint[] := array(
        select id from tasker.steps where task_id = p_task and v_waits[ordinal + 1] = 0);
    v_next bigint[];
    v_depth integer := 0;
    v_child record;
begin
    while cardinality(v_reached) > 0 loop
        v_depth := v_depth + 1;
        v_next := '{}';
        for v_child in
            select s.id, s.ordinal + 1 as place, edges.n
            from (
                select e.child_id, count(*)::integer as n
                from unnest(v_reached) parent (id)
                cross join lateral (
                    select child_id from tasker.step_edges where parent_id = parent.id offset 0
                ) e
                group by e.child_id
            ) edges
            cross join lateral (
                select id, task_id, ordinal from tasker.steps where id = edges.child_id offset 0
            ) s
            where s.task_id = p_task
        loop
            v_waits[v_child.place] := v_waits[v_child.place] - v_child.n;
            if v_waits[v_child.place] = 0 then
                v_levels[v_child.place] := v_depth;
                v_next := v_next || v_child.id;
            end if;
        end loop;
        v_reached := v_next;
    end loop;

    return query
        select s.id, s.name, v_levels[s.ordinal + 1]
        from tasker.steps s
        where s.task_id = p_task
        order by v_levels[s.ordinal + 1], s.ordinal;
end
$$;
