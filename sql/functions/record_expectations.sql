-- Blends what workers measured into the handlers' expected times: p_measured {handler: milliseconds}, half
-- new, half old. Locks: the handlers' rows, by name. A repeat weighs the same figures again.
create or replace function tasker.record_expectations(p_measured jsonb)
returns void
language plpgsql
volatile
as $$
begin
    insert into tasker.handlers as h (name, expected_ms)
    select key, value::real from jsonb_each_text(p_measured) order by key
    on conflict (name) do update
    set expected_ms = (h.expected_ms + excluded.expected_ms) / 2;
end
$$;
