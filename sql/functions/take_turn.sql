-- Paces a coordinator loop over all processes: true for one caller per p_every, which then runs the pass.
-- Two that run it at once do no harm. Locks: the loop's row. A repeat within p_every gets false.
create or replace function tasker.take_turn(p_loop text, p_every interval, p_worker integer)
returns boolean
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
begin
    -- read first: an insert that finds the row not due would still lock it, and write for that
    if exists (select 1 from tasker.coordinator_loops where name = p_loop and due_at > v_now) then
        return false;
    end if;
    insert into tasker.coordinator_loops as l (name, due_at, ran_at, ran_by)
    values (p_loop, v_now + p_every, v_now, p_worker)
    on conflict (name) do update
    set due_at = v_now + p_every, ran_at = v_now, ran_by = p_worker
    where l.due_at <= v_now;
    return found;
end
$$;
