-- The mains and coordinators not stopped, with their beats: what a coordinator watches. Reads only.
create or replace function tasker.live_workers()
returns table (id integer, beats bigint)
language plpgsql
volatile
as $$
begin
    return query
        select w.id, w.beats
        from tasker.workers w
        where w.stopped_at is null and w.parent_id is null;
end
$$;
