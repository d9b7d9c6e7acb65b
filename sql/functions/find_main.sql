-- The live worker row of a main process, by the id it drew for its life: how a child finds whose it is, also
-- after its main was taken for dead and has registered anew. Host and process id would not do: containers may
-- share both. Null if there is none (yet). Reads only.
create or replace function tasker.find_main(p_instance uuid)
returns integer
language plpgsql
volatile
as $$
begin
    return (
        select max(id)
        from tasker.workers
        where stopped_at is null and kind = 'main' and instance = p_instance);
end
$$;
