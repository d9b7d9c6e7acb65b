-- What an operator asked for but could not have: [{"step_id", "task_id", "step", "state", "task_state"}, …]
-- for the steps of p_steps that are neither in p_moves nor in the state asked for already. Reads only.
create or replace function tasker.refused_steps(
    p_steps bigint[], p_moves tasker.step_move[], p_wanted text[])
returns json
language plpgsql
volatile
as $$
declare
    v_moved constant bigint[] := array(select step_id from unnest(p_moves));
begin
    return (
        select coalesce(json_agg(json_build_object('step_id', s.id, 'task_id', s.task_id, 'step', s.name,
            'state', s.state, 'task_state', t.state) order by s.id), '[]')
        from tasker.steps s
        cross join lateral (
            select state from tasker.tasks where id = s.task_id offset 0
        ) t
        where s.id = any (p_steps) and not s.id = any (v_moved) and not s.state = any (p_wanted)
    );
end
$$;
