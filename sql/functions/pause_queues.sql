-- An operator holds queues: nothing more of them starts, whatever task it is of. Messages that are out find
-- their steps held at claim, and what becomes ready stays `ready`. What runs, runs on.
-- Returns {"moved": [names], "refused": [names of queues nobody knows], "at"}.
--
-- Locks: the queues by name. Everybody else reads them without locks, so a claim under way may still win.
-- A repeat moves nothing: a queue keeps the one who paused it first, and since when.
create or replace function tasker.pause_queues(p_queues text[], p_actor text, p_reason text)
returns json
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_paused text[];
begin
    perform tasker.assert_read_committed();
    perform 1 from tasker.queues where name = any (p_queues) order by name for no key update;
    with paused as (
        update tasker.queues
        set paused_at = v_now, paused_by = p_actor, paused_because = p_reason
        where name = any (p_queues) and paused_at is null
        returning name
    )
    select coalesce(array_agg(name order by name), '{}') into v_paused from paused;
    return json_build_object(
        'moved', v_paused,
        'refused', array(
            select asked
            from unnest(p_queues) asked
            where not exists (select 1 from tasker.queues where name = asked)),
        'at', v_now);
end
$$;
