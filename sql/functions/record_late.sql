-- finish_steps for outcomes it could not record: those whose attempt somebody else had ended are kept in
-- step_attempts.late and returned as refused; those an earlier call of the same outcome recorded are not
-- refused. Caller holds the locks. Repeats safely: late is written once.
create or replace function tasker.record_late(p_outcomes jsonb, p_recorded bigint[])
returns bigint[]
language plpgsql
volatile
as $$
declare
    v_rest constant bigint[] := array(
        select distinct (o ->> 'step_id')::bigint
        from jsonb_array_elements(p_outcomes) o
        where not (o ->> 'step_id')::bigint = any (p_recorded));
    v_known bigint[];
begin
    v_known := array(
        select a.step_id
        from tasker.step_attempts a
        join jsonb_to_recordset(p_outcomes) as o (step_id bigint, attempt integer, claim_id uuid, kind text)
            on o.step_id = a.step_id and o.attempt = a.attempt and o.claim_id = a.claim_id
        where a.step_id = any (v_rest)
          and a.outcome = any (case when o.kind = 'complete' then '{complete}' else '{retry,error}' end::text[]));

    update tasker.step_attempts a
    set late = o.report
    from (
        select distinct on (q ->> 'step_id') (q ->> 'step_id')::bigint as step_id,
            (q ->> 'attempt')::integer as attempt, (q ->> 'claim_id')::uuid as claim_id,
            jsonb_build_object('kind', q -> 'kind', 'result', q -> 'result', 'error', q -> 'error') as report
        from jsonb_array_elements(p_outcomes) q
        order by q ->> 'step_id'
    ) o
    where a.step_id = any (v_rest) and a.step_id = o.step_id and a.attempt = o.attempt
      and a.claim_id = o.claim_id and a.late is null and not a.step_id = any (v_known);

    return array(select id from unnest(v_rest) id where not id = any (v_known) order by id);
end
$$;
