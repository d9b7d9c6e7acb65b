-- Refuses isolation levels under which wake-ups are lost: with one snapshot for the whole transaction,
-- two parents that finish together each miss the other. Raises TK002. No locks.
create or replace function tasker.assert_read_committed()
returns void
language plpgsql
volatile
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'TK002',
            message = format('transaction isolation is %s', current_setting('transaction_isolation')),
            hint = 'Tasker changes states in READ COMMITTED only; call it outside your transaction.';
    end if;
end
$$;
