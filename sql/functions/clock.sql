-- The one clock. Every function reads it once into v_now and compares against that; Python never
-- decides what is due. clock_timestamp, not now(): a statement that waited for a lock must not act in
-- the past. Takes no lock, repeats safely.
create or replace function tasker.clock()
returns timestamptz
language sql
volatile
as $$ select clock_timestamp() $$;
