-- Refuses a worker that was stopped, or whose main was: its steps are being given to others, so it must
-- not take more before it registers anew. Raises TK001. Returns the handlers it can run (its main's).
-- Takes no lock: a claim that slips past a concurrent stop is found by recover_steps, which looks at
-- open attempts of stopped workers on every pass.
create or replace function tasker.assert_worker(p_worker integer)
returns text[]
language plpgsql
volatile
as $$
declare
    v_handlers text[];
begin
    select coalesce(main.handlers, own.handlers)
    into v_handlers
    from tasker.workers own
    left join tasker.workers main on main.id = own.parent_id
    where own.id = p_worker
      and own.stopped_at is null
      and main.stopped_at is null;
    if not found then
        raise exception using
            errcode = 'TK001',
            message = format('worker %s is stopped or unknown', p_worker),
            hint = 'It was thought dead or shut down; the process has to register anew.';
    end if;
    return v_handlers;
end
$$;
