-- Marks the children of a main stopped whose processes are gone: a main sees that within half a second,
-- long before anybody misses a beat. p_live_pids: process ids that still exist. Returns the ids stopped.
-- Locks: rows by id. A repeat stops nobody twice.
create or replace function tasker.stop_children(p_main integer, p_live_pids integer[])
returns integer[]
language plpgsql
volatile
as $$
begin
    return tasker.stop_workers(
        array(
            select id
            from tasker.workers
            where parent_id = p_main and stopped_at is null and not pid = any (p_live_pids)),
        null,
        'process_gone');
end
$$;
