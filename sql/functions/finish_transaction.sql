-- The last statement of a transactional step's own transaction: records its completion beside the handler's
-- writes, so that both commit or neither does.
--
-- p_outcome: one completion as finish_steps takes it. p_transaction: pg_current_xact_id() of the transaction in
-- which the handler began: one that ended it has parted its writes from this completion (TK006).
-- An attempt that has ended already is refused (TK007), and the caller's writes roll back with it.
-- Nothing is kept for the worker. Returns what finish_steps returns.
--
-- Locks: those of finish_steps, after whatever the handler has locked, until the caller commits. The attempt is
-- looked at twice: without locks, which refuses a repeat, and by finish_steps under them, which refuses what
-- somebody else ended meanwhile. Whether a commit whose answer was lost took place is decided by
-- release_steps under the step's claim: it waits for this transaction to end.
create or replace function tasker.finish_transaction(p_outcome jsonb, p_transaction text, p_moves boolean)
returns json
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_open integer;
    v_reply json;
begin
    if pg_current_xact_id()::text <> p_transaction then
        raise exception using
            errcode = 'TK006',
            message = 'the handler of a transactional step ended its transaction itself',
            hint = 'What it wrote before is committed or gone; let it return or raise instead.';
    end if;
    -- others may wait for what this locks: a client that stops before its commit is not waited for long
    perform set_config('lock_timeout', '10s', true),
        set_config('idle_in_transaction_session_timeout', '30s', true);
    v_open := (
        select count(*)
        from tasker.step_attempts
        where step_id = (p_outcome ->> 'step_id')::bigint and attempt = (p_outcome ->> 'attempt')::integer
          and claim_id = (p_outcome ->> 'claim_id')::uuid and outcome is null);
    if v_open = 1 then
        v_reply := tasker.finish_steps(jsonb_build_array(p_outcome), null, null, null, p_moves);
    end if;
    if v_open = 0 or json_array_length(v_reply -> 'refused') > 0 then
        raise exception using
            errcode = 'TK007',
            message = format('attempt %s of step %s had been ended by somebody else',
                p_outcome ->> 'attempt', p_outcome ->> 'step_id');
    end if;
    return v_reply;
end
$$;
