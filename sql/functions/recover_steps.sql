-- Takes steps back from stopped workers: every attempt still open under one, or under a child of one, ends
-- as `lost` and its step is enqueued again (ready when held), marked `alone`. Only a loss while alone
-- counts, since in a shared claim nobody knows which step killed the worker; that an older message may bring
-- steps so marked together once more makes a shared claim of theirs too. At p_max_losses the step becomes
-- error. What a worker leaves that was told to stop counts nothing and is not marked: it is nobody's fault.
-- An attempt alone in its claim whose time was over when its process vanished has not lost it but was ended
-- with it, at its hard limit: it fails with StepTimeout and is retried by the step's policy.
-- Returns {"moved": n, "publish", "at", "moves"}; at most p_limit steps a call,
-- and the others of their claims.
--
-- Locks: lock_with_children, then a re-check under them: a finish that came first wins. Looks at open
-- attempts of stopped workers each time, so a claim that slipped past the stop is found by the next call,
-- as is one by a child whose row stop_workers could not see yet. A repeat finds none.
create or replace function tasker.recover_steps(p_max_losses integer, p_limit integer, p_moves boolean)
returns json
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_mark bigint;
    v_gone integer[];
    v_claims uuid[];
    v_lost bigint[];
    v_over bigint[];
    v_left bigint[];
    v_charged bigint[];
    v_spent bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    v_gone := array(
        select busy.worker_id
        from (
            select distinct worker_id from tasker.step_attempts where finished_at is null
        ) busy
        cross join lateral (
            select 1
            from tasker.workers own
            left join tasker.workers main on main.id = own.parent_id
            where own.id = busy.worker_id
              and (own.stopped_at is not null or main.stopped_at is not null)
            offset 0
        ) stopped);
    -- claims are taken back whole, or the last step left of one would pass for alone
    v_claims := array(
        select claim_id
        from tasker.step_attempts
        where worker_id = any (v_gone) and finished_at is null
        order by worker_id
        limit p_limit);
    v_lost := array(
        select step_id
        from tasker.step_attempts
        where worker_id = any (v_gone) and finished_at is null and claim_id = any (v_claims));
    perform tasker.lock_with_children(v_lost, '{}');
    v_lost := array(
        select id from tasker.steps
        where id = any (v_lost) and state = 'in_progress' and worker_id = any (v_gone));
    v_over := array(
        select s.id
        from tasker.steps s
        cross join lateral (
            select timeout_ms
            from tasker.template_steps
            where template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts
        cross join lateral (
            select claimed_at from tasker.step_attempts where step_id = s.id and attempt = s.attempt offset 0
        ) a
        cross join lateral (
            select 1
            from tasker.workers
            where id = s.worker_id and stopped_because = 'process_gone'
              and stopped_at >= a.claimed_at + ts.timeout_ms * interval '1 millisecond'
            offset 0
        ) gone
        where s.id = any (v_lost) and not tasker.claim_is_shared(s.id, s.worker_id, s.claim_id));
    v_lost := array(select id from unnest(v_lost) id where not id = any (v_over) order by id);
    v_left := array(
        select s.id
        from tasker.steps s
        cross join lateral (
            select 1
            from tasker.workers
            where id = s.worker_id and stopped_because = 'shutdown'
            offset 0
        ) told
        where s.id = any (v_lost));
    v_charged := array(
        select id from tasker.steps
        where id = any (v_lost) and not id = any (v_left)
          and alone and not tasker.claim_is_shared(id, worker_id, claim_id));
    v_spent := array(
        select id from tasker.steps where id = any (v_charged) and losses + 1 >= p_max_losses);

    update tasker.step_attempts
    set finished_at = v_now, outcome = 'lost'
    where step_id = any (v_lost) and outcome is null;
    update tasker.steps
    set losses = losses + (id = any (v_charged))::integer, alone = alone or not id = any (v_left)
    where id = any (v_lost);
    v_moves := tasker.record_timeouts(v_over, v_now);
    v_moves := v_moves || tasker.move_steps(
        v_spent, '{in_progress}', 'error', v_now, null, 'worker_lost');
    v_moves := v_moves || tasker.offer_steps(v_lost, 'in_progress', v_now, null, 'worker_lost');
    perform tasker.advance_tasks(v_moves, v_now, null, null);

    return json_build_object(
        'moved', cardinality(v_lost || v_over),
        'publish', tasker.publication(v_lost),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
