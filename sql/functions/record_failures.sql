-- finish_steps for the outcomes of kind "failure": waiting_for_retry while attempts are left, else error.
-- permanent ends the step at once; retry_after_ms replaces the policy's delay. A step that ends in error gets
-- a dead letter. Returns the moves.
-- Caller holds the locks. A repeat finds no attempt open under its claims and changes nothing.
create or replace function tasker.record_failures(p_outcomes jsonb, p_now timestamptz)
returns tasker.step_move[]
language plpgsql
volatile
as $$
declare
    v_failing constant bigint[] := array(
        select distinct (o ->> 'step_id')::bigint
        from jsonb_array_elements(p_outcomes) o
        where o ->> 'kind' = 'failure');
    v_moves tasker.step_move[];
    v_permanent bigint[];
    v_exhausted bigint[];
begin
    with outcome as materialized (
        select distinct on (step_id, attempt) *
        from jsonb_to_recordset(p_outcomes) as o (
            step_id bigint, attempt integer, claim_id uuid, kind text, error jsonb, permanent boolean,
            retry_after_ms float8, started_ms_ago float8)
        where kind = 'failure'
        order by step_id, attempt
    ),
    -- materialized, and updated by place: joined by key, a plan may look up the whole batch for each row
    own as materialized (
        select ctid as place, template_id, ordinal, id, attempt, claim_id, failures
        from tasker.steps
        where id = any (v_failing) and state = 'in_progress'
    ),
    decided as materialized (
        select own.place, o.error, o.started_ms_ago, coalesce(o.permanent, false) as permanent,
            p_now + coalesce(o.retry_after_ms * interval '1 millisecond',
                tasker.retry_delay(ts.retry, own.failures + 1)) as due,
            case
                when coalesce(o.permanent, false) or own.failures + 1 >= ts.max_attempts then 'error'
                else 'waiting_for_retry'
            end as state
        from own
        join outcome o on o.step_id = own.id and o.attempt = own.attempt and o.claim_id = own.claim_id
        cross join lateral (
            select retry, max_attempts
            from tasker.template_steps
            where template_id = own.template_id and ordinal = own.ordinal
            offset 0
        ) ts
    ),
    moved as (
        update tasker.steps s
        set state = d.state, failures = s.failures + 1, changed_at = p_now,
            run_after = case when d.state = 'waiting_for_retry' then d.due end
        from decided d
        where s.ctid = d.place
        returning s.id, s.task_id, s.attempt, s.state, d.error, d.permanent, d.started_ms_ago
    ),
    attempt as (
        update tasker.step_attempts a
        set finished_at = p_now, error = m.error,
            outcome = case when m.state = 'error' then 'error' else 'retry' end,
            started_at = greatest(a.claimed_at, p_now - m.started_ms_ago * interval '1 millisecond')
        from (
            select moved.state, moved.error, moved.started_ms_ago, open.place
            from moved
            cross join lateral (
                select ctid as place
                from tasker.step_attempts
                where step_id = moved.id and attempt = moved.attempt
                offset 0
            ) open
            offset 0
        ) m
        where a.ctid = m.place
    ),
    log as (
        insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at, reason)
        select task_id, id, 'in_progress', state, attempt, p_now, error ->> 'type' from moved
    )
    select coalesce(array_agg((task_id, id, 'in_progress', state)::tasker.step_move), '{}'),
        array_agg(id) filter (where state = 'error' and permanent),
        array_agg(id) filter (where state = 'error' and not permanent)
    into v_moves, v_permanent, v_exhausted
    from moved;
    if v_permanent is not null then
        perform tasker.bury_steps(v_permanent, 'permanent', null, p_now);
    end if;
    if v_exhausted is not null then
        perform tasker.bury_steps(v_exhausted, 'exhausted', null, p_now);
    end if;
    return v_moves;
end
$$;
