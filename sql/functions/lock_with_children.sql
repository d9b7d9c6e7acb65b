-- The lock order of every function that changes a task's counters, in one place: first the tasks of
-- p_steps by id, then, in a new statement and so with a new snapshot, the steps themselves together with
-- the children of p_parents, by id. Returns those children.
--
-- FOR NO KEY UPDATE: FOR UPDATE would deadlock with the KEY SHARE locks of foreign-key inserts. Waiting,
-- never SKIP LOCKED: whoever advances a task has to see what others did to it. Functions that stay inside
-- the active states lock steps only, by id, so they cannot form a cycle with this order.
create or replace function tasker.lock_with_children(p_steps bigint[], p_parents bigint[])
returns bigint[]
language plpgsql
volatile
as $$
declare
    v_children bigint[];
begin
    perform 1
    from tasker.tasks
    where id = any (array(select task_id from tasker.steps where id = any (p_steps)))
    order by id
    for no key update;
    v_children := array(
        select distinct e.child_id
        from unnest(p_parents) parent (id)
        cross join lateral (
            select child_id from tasker.step_edges where parent_id = parent.id offset 0
        ) e);
    perform 1 from tasker.steps where id = any (p_steps || v_children) order by id for no key update;
    return v_children;
end
$$;
