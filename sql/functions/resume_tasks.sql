-- An operator lets paused tasks go on: paused → in_progress. Their held steps come into the sight of the
-- dispatch loop. A task in which meanwhile everything failed that could run settles: → in_progress → error.
-- Returns {"moved": [task ids], "refused": [{"task_id", "state"}, …], "at", "moves"}.
--
-- Locks: tasks by id, then, in a later statement, all their active steps by id. So a claim, release or retry
-- that found the task paused, and holds a step where no loop would look, has ended before the held steps are
-- read; one that comes later finds the task in progress. A repeat moves nothing, and refuses nothing that is
-- in progress or left `paused` by being resumed.
create or replace function tasker.resume_tasks(
    p_tasks uuid[], p_actor text, p_reason text, p_moves boolean)
returns json
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_mark bigint;
    v_paused uuid[];
    v_spent uuid[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform 1 from tasker.tasks where id = any (p_tasks) order by id for no key update;
    v_paused := array(select id from tasker.tasks where id = any (p_tasks) and state = 'paused');
    perform 1
    from tasker.steps
    where task_id = any (v_paused)
      and state in ('ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting')
    order by id
    for no key update;

    update tasker.steps
    set ready_at = v_now
    where task_id = any (v_paused) and state = 'ready' and run_after is null;
    v_spent := array(select id from tasker.tasks where id = any (v_paused) and steps_active = 0);
    update tasker.tasks
    set state = case when id = any (v_spent) then 'error' else 'in_progress' end,
        finished_at = case when id = any (v_spent) then v_now end
    where id = any (v_paused);
    insert into tasker.transitions (task_id, from_state, to_state, at, actor, reason)
    select id, 'paused', 'in_progress', v_now, p_actor, p_reason from unnest(v_paused) id;
    insert into tasker.transitions (task_id, from_state, to_state, at, actor)
    select id, 'in_progress', 'error', v_now, p_actor from unnest(v_spent) id;

    return json_build_object(
        'moved', v_paused,
        'refused', (
            select coalesce(json_agg(json_build_object('task_id', id, 'state', state) order by id), '[]')
            from tasker.tasks
            where id = any (p_tasks) and not id = any (v_paused) and state <> 'in_progress'
              and (
                  select to_state from tasker.transitions
                  where task_id = tasks.id and step_id is null and from_state = 'paused'
                  order by seq desc
                  limit 1
              ) is distinct from 'in_progress'),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(v_paused, v_mark, v_now) end);
end
$$;
