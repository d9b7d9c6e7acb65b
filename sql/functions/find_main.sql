-- The live worker row of a main process, by host and process id: how a child finds whose it is, also after
-- its main was taken for dead and has registered anew. Null if there is none (yet). Reads only.
create or replace function tasker.find_main(p_host text, p_pid integer)
returns integer
language plpgsql
volatile
as $$
begin
    return (
        select max(id)
        from tasker.workers
        where stopped_at is null and kind = 'main' and host = p_host and pid = p_pid);
end
$$;
