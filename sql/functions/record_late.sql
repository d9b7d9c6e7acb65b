-- finish_steps for a batch of which not every outcome moved a step: those whose attempt somebody else had
-- ended are kept in step_attempts.late; returns their step ids. An outcome is known from its own attempt, a
-- failure by its error too, since others end attempts as failures (record_timeouts): so one that this call or
-- an earlier one recorded is not refused, whatever became of the step since.
-- Caller holds the locks. Repeats safely: late is written once.
create or replace function tasker.record_late(p_outcomes jsonb)
returns bigint[]
language plpgsql
volatile
as $$
declare
    v_refused jsonb;
    v_ids bigint[];
begin
    v_refused := (
        select coalesce(jsonb_agg(o), '[]')
        from jsonb_array_elements(p_outcomes) o
        left join lateral (
            select outcome, error
            from tasker.step_attempts
            where step_id = (o ->> 'step_id')::bigint and attempt = (o ->> 'attempt')::integer
              and claim_id = (o ->> 'claim_id')::uuid
            offset 0
        ) a on true
        where not coalesce(
            case
                when o ->> 'kind' = 'complete' then a.outcome = 'complete'
                else a.outcome in ('retry', 'error')
                    and a.error is not distinct from nullif(o -> 'error', 'null')
            end, false));
    v_ids := array(
        select distinct (o ->> 'step_id')::bigint as id from jsonb_array_elements(v_refused) o order by id);

    update tasker.step_attempts a
    set late = o.report
    from (
        select distinct on (step_id, attempt) step_id, attempt, claim_id,
            jsonb_build_object('kind', kind, 'result', result, 'error', error) as report
        from jsonb_to_recordset(v_refused) as q (
            step_id bigint, attempt integer, claim_id uuid, kind text, result jsonb, error jsonb)
        order by step_id, attempt
        offset 0
    ) o
    where a.step_id = any (v_ids) and a.step_id = o.step_id and a.attempt = o.attempt
      and a.claim_id = o.claim_id and a.late is null;
    return v_ids;
end
$$;
