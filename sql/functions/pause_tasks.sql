-- An operator holds tasks: in_progress → paused. Nothing more of them starts: messages that are out find
-- their steps held at claim, and the children of what still runs become `ready`. What runs, runs on.
-- Returns {"moved": [task ids], "refused": [{"task_id", "state"}, …], "at", "moves"}.
--
-- Locks: tasks by id, then, in a later statement, their ready steps by id, which leave the sight of the
-- dispatch loop. A finish serialises with this on the task. A claim reads tasks without locks: one that is
-- under way may still win, as if it had come first, or hold a step in the loop's sight; then the loop
-- publishes that once, and its claim holds it for good. A repeat moves nothing and refuses nothing that is
-- paused.
create or replace function tasker.pause_tasks(
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
    v_running uuid[];
    v_held bigint[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform 1 from tasker.tasks where id = any (p_tasks) order by id for no key update;
    v_running := array(select id from tasker.tasks where id = any (p_tasks) and state = 'in_progress');

    with paused as (
        update tasker.tasks
        set state = 'paused'
        where id = any (v_running)
        returning id
    )
    insert into tasker.transitions (task_id, from_state, to_state, at, actor, reason)
    select id, 'in_progress', 'paused', v_now, p_actor, p_reason from paused;
    v_held := array(
        select id from tasker.steps
        where task_id = any (v_running) and state = 'ready'
        order by id
        for no key update);
    update tasker.steps
    set ready_at = null
    where id = any (v_held) and state = 'ready' and run_after is null;

    return json_build_object(
        'moved', v_running,
        'refused', (
            select coalesce(json_agg(json_build_object('task_id', id, 'state', state) order by id), '[]')
            from tasker.tasks
            where id = any (p_tasks) and state <> 'paused'),
        'at', v_now,
        'moves', case when p_moves then tasker.moves_since(v_running, v_mark, v_now) end);
end
$$;
