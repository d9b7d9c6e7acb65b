-- The children of a main that are not stopped, with their process ids: the main compares them with the
-- processes it has, and stops the rows of those that are gone. Reads only.
create or replace function tasker.live_children(p_main integer)
returns table (id integer, pid integer)
language plpgsql
volatile
as $$
begin
    return query
        select w.id, w.pid
        from tasker.workers w
        where w.stopped_at is null and w.parent_id = p_main;
end
$$;
