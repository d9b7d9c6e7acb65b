-- What a published step adds to the work that its queue has published, in ms: what its handler is expected to
-- take (null: never measured, so that 64 of them make a second), at least 0.1, and at most what may be
-- published for one executing slot. So there is always room for one step a slot, however slow the steps are.
create or replace function tasker.step_cost(p_expected_ms real)
returns double precision
language sql
immutable
parallel safe
as $$
    select least(500.0, greatest(0.1, coalesce(p_expected_ms, 1000.0 / 64)))
$$;
