-- Replaces the clock in a test database only: a session that sets tasker.fake_now moves its own time.
-- Marks the database as one in which faults may be injected.
comment on schema tasker is 'test database';
create or replace function tasker.clock()
returns timestamptz
language sql
volatile
as $$
    select coalesce(nullif(current_setting('tasker.fake_now', true), '')::timestamptz, clock_timestamp())
$$;
