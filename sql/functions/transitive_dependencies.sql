-- All steps that a step waits for, directly or through others, each once with the shortest way to it:
-- distance 1 for parents. None for a root and for a step that does not exist.
--
-- One query a distance, over the edges of the steps found last; a step found before is not followed again, so
-- every edge is read at most once, however many ways there are. Reads only, no locks; STABLE, so that all is
-- of one snapshot.
create or replace function tasker.transitive_dependencies(p_task uuid, p_step text)
returns table (step_id bigint, name text, state text, distance integer)
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
    -- by ordinal; ordinals have no gaps
    v_distances integer[] := array_fill(
        null::integer, array[(select count(*)::integer from tasker.steps where task_id = p_task)]);
    v_followed bigint[] := array(select id from tasker.steps where task_id = p_task and name = p_step);
    v_places integer[];
    v_place integer;
    v_distance integer := 0;
begin
    while cardinality(v_followed) > 0 loop
        v_distance := v_distance + 1;
        select array_agg(id), array_agg(place)
        into v_followed, v_places
        from (
            select distinct p.id, p.ordinal + 1 as place
            from unnest(v_followed) child (id)
            cross join lateral (
                select parent_id from tasker.step_edges where child_id = child.id offset 0
            ) e
            cross join lateral (
                select id, task_id, ordinal from tasker.steps where id = e.parent_id offset 0
            ) p
            where p.task_id = p_task
        ) parent
        where v_distances[place] is null;

        foreach v_place in array coalesce(v_places, '{}') loop
            v_distances[v_place] := v_distance;
        end loop;
    end loop;

    return query
        select s.id, s.name, s.state::text, v_distances[s.ordinal + 1]
        from tasker.steps s
        where s.task_id = p_task and v_distances[s.ordinal + 1] is not null
        order by v_distances[s.ordinal + 1], s.ordinal;
end
$$;
