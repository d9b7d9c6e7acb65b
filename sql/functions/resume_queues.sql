-- An operator lets paused queues go on; the dispatch loop enqueues what they held.
-- Returns {"moved": [names], "refused": [names of queues nobody knows], "at"}.
--
-- Locks: the queues by name. What was held has its time since when, so the loop finds it, also what a claim
-- under way still holds. A repeat moves nothing.
create or replace function tasker.resume_queues(p_queues text[])
returns json
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_resumed text[];
begin
    perform tasker.assert_read_committed();
    perform 1 from tasker.queues where name = any (p_queues) order by name for no key update;
    with resumed as (
        update tasker.queues
        set paused_at = null, paused_by = null, paused_because = null
        where name = any (p_queues) and paused_at is not null
        returning name
    )
    select coalesce(array_agg(name order by name), '{}') into v_resumed from resumed;
    return json_build_object(
        'moved', v_resumed,
        'refused', array(
            select asked
            from unnest(p_queues) asked
            where not exists (select 1 from tasker.queues where name = asked)),
        'at', v_now);
end
$$;
