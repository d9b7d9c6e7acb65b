-- Records how attempts ended, advances children, settles tasks, and lets the worker keep what it can run
-- next: the whole step of a chain in one round trip.
--
-- p_outcomes: [{"step_id", "attempt", "claim_id", "kind": "complete" | "failure", "result", "error",
-- "permanent", "retry_after_ms", "started_ms_ago"}, …], under any claims of this worker.
-- p_claim: fresh uuid for what is kept. p_keep: null, or {"queue", "budget_ms", "max"}: what this worker is
-- ready to keep of the steps that the report sets free; advance_tasks decides.
-- Returns {"kept": claimed(), "publish", "refused": [step ids], "at", "moves"}. An outcome is refused when its
-- attempt was ended by somebody else; what it brought is kept in step_attempts.late.
-- With p_keep a stopped worker is refused with TK001, and nothing is recorded.
--
-- Locks: lock_with_children. The wake-up cannot be lost: children are decremented under locks taken in an
-- earlier statement, in READ COMMITTED, so of two parents that finish together the second sees the first.
-- A repeat moves nothing, since no attempt is open under its claims any more; its answer is read from the
-- state in a last statement and brings the same kept steps and what is still to be published.
create or replace function tasker.finish_steps(
    p_outcomes jsonb, p_worker integer, p_claim uuid, p_keep jsonb, p_moves boolean)
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
    v_now constant timestamptz := tasker.clock();
    v_mark bigint;
    v_keep tasker.keeper;
    v_ids bigint[];
    v_completing bigint[];
    v_children bigint[];
    v_publish bigint[];
    v_moves tasker.step_move[];
    v_refused bigint[] := '{}';
begin
    perform tasker.assert_read_committed();
    if p_keep is not null then
        v_keep := (
            p_worker, p_claim, p_keep ->> 'queue', tasker.assert_worker(p_worker),
            (p_keep ->> 'budget_ms')::real, (p_keep ->> 'max')::integer);
    end if;
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    select coalesce(array_agg((o ->> 'step_id')::bigint), '{}'),
        coalesce(array_agg((o ->> 'step_id')::bigint) filter (where o ->> 'kind' = 'complete'), '{}')
    into v_ids, v_completing
    from jsonb_array_elements(p_outcomes) o;
    v_children := tasker.lock_with_children(v_ids, v_completing);

    with moved as (
        update tasker.steps s
        set state = 'complete', changed_at = v_now
        from (
            select own.place, o.result, o.started_ms_ago
            from jsonb_to_recordset(p_outcomes) as o (
                step_id bigint, attempt integer, claim_id uuid, kind text, result jsonb,
                started_ms_ago float8)
            cross join lateral (
                select ctid as place
                from tasker.steps
                where id = o.step_id and state = 'in_progress' and attempt = o.attempt
                  and claim_id = o.claim_id
                offset 0
            ) own
            where o.kind = 'complete'
            offset 0
        ) o
        where s.ctid = o.place
        returning s.id, s.task_id, s.attempt, o.result, o.started_ms_ago
    ),
    attempt as (
        update tasker.step_attempts a
        set finished_at = v_now, outcome = 'complete', result = m.result,
            started_at = greatest(a.claimed_at, v_now - m.started_ms_ago * interval '1 millisecond')
        from (
            select moved.result, moved.started_ms_ago, own.place
            from moved
            cross join lateral (
                select ctid as place
                from tasker.step_attempts
                where step_id = moved.id and attempt = moved.attempt
                offset 0
            ) own
            offset 0
        ) m
        where a.ctid = m.place
    ),
    log as (
        insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
        select task_id, id, 'in_progress', 'complete', attempt, v_now from moved
    )
    select coalesce(array_agg((task_id, id, 'in_progress', 'complete')::tasker.step_move), '{}')
    into v_moves
    from moved;

    if cardinality(v_completing) < jsonb_array_length(p_outcomes) then
        v_moves := v_moves || tasker.record_failures(p_outcomes, v_now);
    end if;
    if cardinality(v_moves) < jsonb_array_length(p_outcomes) then
        v_refused := tasker.record_late(p_outcomes);
    end if;

    v_publish := tasker.advance_tasks(v_moves, v_now, null, v_keep, v_children);
    if cardinality(v_moves) = 0 then
        -- a repeat answers from the state it finds, for what was recorded of it and not for what was refused
        v_publish := array(
            select e.child_id
            from jsonb_to_recordset(p_outcomes) as o (step_id bigint, attempt integer, claim_id uuid)
            cross join lateral (
                select outcome, claim_id
                from tasker.step_attempts
                where step_id = o.step_id and attempt = o.attempt
                offset 0
            ) a
            cross join lateral (
                select child_id from tasker.step_edges where parent_id = o.step_id offset 0
            ) e
            where a.outcome = 'complete' and a.claim_id = o.claim_id);
    end if;

    return json_build_object(
        'kept', case
            when p_keep is null or cardinality(v_children) = 0 then '[]'
            else tasker.claimed(v_children, p_claim)
        end,
        'publish', case when cardinality(v_publish) = 0 then '[]' else tasker.publication(v_publish) end,
        'refused', v_refused,
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
