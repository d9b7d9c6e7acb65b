-- A worker takes steps: enqueued → in_progress, one attempt row each. What it does not win is absent.
--
-- p_claim: fresh uuid of this call, repeated unchanged when the call is retried; with state and attempt it
-- fences every later report. A claim id wins a step once: a step it won and gave back stays given back.
-- Not won and given back: steps of a paused task or queue become `ready`; steps whose handler this worker
-- lacks become `ready` with a time at which they are offered again: 1 s, 2 s, then 4 s each time.
-- Returns {"steps": claimed(), "contexts": {task_id: {"context", "correlation_id", "template", "version", "deadline"}},
-- "given_back", "moves"}.
-- A stopped worker is refused with TK001.
--
-- Locks: the steps by id; tasks and queues are read without locks (an operator who cancels locks the
-- steps too, and one of the two waits). Moves first, answers in a later statement: a repeat, even beside
-- a first call that still runs, waits for its locks, wins nothing, and returns the same rows.
create or replace function tasker.claim_steps(
    p_ids bigint[], p_worker integer, p_claim uuid, p_moves boolean)
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
    v_handlers text[];
    v_winning bigint[];
    v_held bigint[];
    v_paused bigint[];
    v_foreign bigint[];
begin
    perform tasker.assert_read_committed();
    v_handlers := tasker.assert_worker(p_worker);
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    perform 1 from tasker.steps where id = any (p_ids) order by id for no key update;
    select coalesce(array_agg(id) filter (where fate = 'won'), '{}'),
        coalesce(array_agg(id) filter (where fate = 'held'), '{}'),
        coalesce(array_agg(id) filter (where fate = 'paused'), '{}'),
        coalesce(array_agg(id) filter (where fate = 'foreign'), '{}')
    into v_winning, v_held, v_paused, v_foreign
    from (
        select s.id,
            case
                when t.state <> 'in_progress' then 'paused'
                when q.paused_at is not null then 'held'
                when not ts.handler = any (v_handlers) then 'foreign'
                -- a call that was under way for long may arrive after others have had the step
                when (
                    select count(*) from tasker.step_attempts where step_id = s.id and claim_id = p_claim
                ) = 0 then 'won'
            end as fate
        from tasker.steps s
        cross join lateral (
            select state from tasker.tasks where id = s.task_id offset 0
        ) t
        cross join lateral (
            select handler
            from tasker.template_steps
            where template_id = s.template_id and ordinal = s.ordinal
            offset 0
        ) ts
        left join lateral (
            select paused_at from tasker.queues where name = s.queue offset 0
        ) q on true
        where s.id = any (p_ids) and s.state = 'enqueued'
    ) c;

    with won as (
        update tasker.steps s
        set state = 'in_progress', attempt = s.attempt + 1, claim_id = p_claim, worker_id = p_worker,
            enqueued_at = null, start_by = null, republished = 0, given_back = 0, changed_at = v_now
        where s.id = any (v_winning)
        returning s.id, s.task_id, s.attempt
    ),
    attempt as (
        insert into tasker.step_attempts (step_id, attempt, claim_id, worker_id, claimed_at)
        select id, attempt, p_claim, p_worker, v_now from won
    )
    insert into tasker.transitions (task_id, step_id, from_state, to_state, attempt, at)
    select task_id, id, 'enqueued', 'in_progress', attempt, v_now from won;

    if cardinality(v_held) + cardinality(v_paused) + cardinality(v_foreign) > 0 then
        with back as (
            update tasker.steps s
            set state = 'ready', enqueued_at = null, changed_at = v_now,
                ready_at = case when s.id = any (v_held) then v_now end,
                run_after = case
                    when s.id = any (v_foreign)
                    then v_now + power(2, least(s.given_back, 2)) * interval '1 second'
                end,
                given_back = s.given_back + (s.id = any (v_foreign))::integer
            where s.id = any (v_held || v_paused || v_foreign)
            returning s.id, s.task_id
        )
        insert into tasker.transitions (task_id, step_id, from_state, to_state, at, reason)
        select task_id, id, 'enqueued', 'ready', v_now,
            case when id = any (v_foreign) then 'handler_missing' else 'held' end
        from back;
    end if;

    return json_build_object(
        'steps', tasker.claimed(p_ids, p_claim),
        'contexts', (
            select json_object_agg(t.id, json_build_object('context', t.context,
                'correlation_id', t.correlation_id, 'template', t.namespace || '/' || t.name,
                'version', tv.version,
                'deadline', t.deadline_at))
            from tasker.tasks t
            cross join lateral (
                select version from tasker.templates where id = t.template_id offset 0
            ) tv
            -- of those whose steps it won: a doubled message must not fetch 64 contexts for nothing
            where t.id = any (array(
                select distinct task_id from tasker.steps
                where id = any (p_ids) and claim_id = p_claim and state = 'in_progress'))),
        'given_back', v_held || v_paused || v_foreign,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from tasker.steps where id = any (p_ids)), v_mark, v_now)
        end);
end
$$;
