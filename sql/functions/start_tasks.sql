-- Moves the pending tasks of p_steps whose time has come to in_progress. Their roots are `waiting`, which
-- counts as active, so no counter changes. Locks: tasks by id, SKIP LOCKED inside a materialized CTE.
-- A repeat finds them started.
create or replace function tasker.start_tasks(p_steps bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
as $$
declare
    v_tasks constant uuid[] := array(select distinct task_id from tasker.steps where id = any (p_steps));
    v_started uuid[];
begin
    v_started := array(
        with pending as materialized (
            select id from tasker.tasks
            where id = any (v_tasks) and state = 'pending' and run_after <= p_now
            order by id
            for no key update skip locked
        )
        select id from pending);

    with started as (
        update tasker.tasks
        set state = 'in_progress', run_after = null
        where id = any (v_started)
        returning id
    )
    insert into tasker.transitions (task_id, from_state, to_state, at, reason)
    select id, 'pending', 'in_progress', p_now, 'due' from started;
end
$$;
