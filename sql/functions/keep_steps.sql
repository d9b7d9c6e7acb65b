-- finish_steps' second half: of the children that just became enqueued and are not published yet, the
-- worker takes a prefix by id whose expected times fit p_keep's budget (one slow or unknown step only
-- alone), and the others get their publication time. Caller holds the locks and has checked the worker.
-- A repeat finds nothing unpublished and changes nothing.
create or replace function tasker.keep_steps(
    p_children bigint[], p_worker integer, p_claim uuid, p_keep jsonb, p_handlers text[], p_now timestamptz)
returns void
language plpgsql
volatile
as $$
declare
    v_ready constant bigint[] := array(
        select id from tasker.steps
        where id = any (p_children) and state = 'enqueued' and enqueued_at is null);
    v_kept bigint[];
begin
    if cardinality(v_ready) = 0 then
        return;
    end if;

    v_kept := array(
        select id
        from (
            select s.id, row_number() over w as place,
                sum(coalesce(h.expected_ms, 'infinity')) over w as expected_ms
            from tasker.steps s
            cross join lateral (
                select handler
                from tasker.template_steps
                where template_id = s.template_id and ordinal = s.ordinal
                offset 0
            ) ts
            left join lateral (
                select expected_ms from tasker.handlers where name = ts.handler offset 0
            ) h on true
            where s.id = any (v_ready) and s.queue = p_keep ->> 'queue' and not s.alone
              and ts.handler = any (p_handlers)
            window w as (order by s.id)
        ) candidate
        where place <= (p_keep ->> 'max')::integer
          and (expected_ms <= (p_keep ->> 'budget_ms')::real or place = 1));

    with won as (
        update tasker.steps s
        set state = 'in_progress', attempt = s.attempt + 1, claim_id = p_claim, worker_id = p_worker,
            changed_at = p_now
        where s.id = any (v_kept) and s.claim_id is distinct from p_claim
        returning s.id, s.task_id, s.attempt
    ),
    attempt as (
        insert into tasker.step_attempts (step_id, attempt, claim_id, worker_id, claimed_at)
        select id, attempt, p_claim, p_worker, p_now from won
    )
    insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
    select task_id, id, 'enqueued', 'in_progress', attempt, p_now from won;

    if cardinality(v_kept) < cardinality(v_ready) then
        update tasker.steps
        set enqueued_at = p_now
        where id = any (v_ready) and state = 'enqueued' and enqueued_at is null;
    end if;
end
$$;
