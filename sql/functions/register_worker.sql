-- A process that will execute steps, or coordinate, announces itself; returns its worker id. A child names
-- its main as p_parent and inherits its queues and handlers; p_instance is what the main process drew for its
-- life, p_slots how many messages it runs at once. Locks: the rows of new queues by name, the new worker. A repeat makes
-- another worker, which never beats and is stopped as silent.
create or replace function tasker.register_worker(
    p_parent integer, p_kind text, p_instance uuid, p_host text, p_pid integer, p_queues text[],
    p_handlers text[], p_slots integer default 1)
returns integer
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_id integer;
begin
    if p_parent is not null then
        perform tasker.assert_worker(p_parent);
    end if;
    insert into tasker.queues (name)
    select name from unnest(p_queues) name order by name
    on conflict (name) do nothing;
    insert into tasker.workers (
        parent_id, kind, instance, host, pid, queues, handlers, slots, started_at, beat_at)
    values (p_parent, p_kind, p_instance, p_host, p_pid, p_queues, p_handlers, p_slots, v_now, v_now)
    returning id into v_id;
    return v_id;
end
$$;
