-- Marks the children of a main stopped whose processes are gone: a main sees that within half a second,
-- long before anybody misses a beat. p_gone_pids: process ids that no longer exist. Returns the ids stopped.
-- Locks: rows by id. A repeat stops nobody twice.
create or replace function tasker.stop_children(p_main integer, p_gone_pids integer[])
returns integer[]
language plpgsql
volatile
as $$
begin
    return tasker.stop_workers(
        array(
            select id
            from tasker.workers
            where parent_id = p_main and stopped_at is null and pid = any (p_gone_pids)),
        null,
        'process_gone');
end
$$;
