-- Marks workers and their children stopped, so that recover_steps takes their steps back. With p_beats
-- (aligned with p_workers) only those whose beats are still the number seen: whoever has beaten since is
-- alive. Returns the ids stopped, children included. Locks: rows by id. A repeat stops nobody twice.
create or replace function tasker.stop_workers(p_workers integer[], p_beats bigint[], p_reason text)
returns integer[]
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_ids integer[];
    v_stopped integer[];
begin
    perform 1
    from tasker.workers
    -- by the index of those alive: of the others there are as many as processes ever ran
    where (id = any (p_workers) or parent_id = any (p_workers)) and stopped_at is null
    order by id
    for no key update;
    v_ids := array(
        select w.id
        from unnest(p_workers, p_beats) as seen (id, beats)
        join tasker.workers w on w.id = seen.id
        where w.stopped_at is null and (p_beats is null or w.beats = seen.beats));
    with stopped as (
        update tasker.workers
        set stopped_at = v_now, stopped_because = p_reason, free = 0
        where (id = any (v_ids) or parent_id = any (v_ids)) and stopped_at is null
        returning id
    )
    select coalesce(array_agg(id), '{}') into v_stopped from stopped;
    return v_stopped;
end
$$;
