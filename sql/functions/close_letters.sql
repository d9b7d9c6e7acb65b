-- Closes the open dead letters of steps that have just left error. Caller holds the steps' locks. A repeat
-- finds none open.
create or replace function tasker.close_letters(
    p_steps bigint[], p_now timestamptz, p_actor text, p_because text)
returns void
language plpgsql
volatile
as $$
begin
    update tasker.dead_letters
    set closed_at = p_now, closed_by = p_actor, closed_because = p_because
    where step_id = any (p_steps) and closed_at is null;
end
$$;
