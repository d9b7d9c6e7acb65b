-- An operator gives failed steps another go: error → enqueued (ready when held, pending while a parent is
-- open), failures and losses back to 0, and their tasks go on. Closes their dead letters. p_steps, and every
-- failed step of p_tasks. A deadline that their tasks have missed is dropped.
-- Returns {"moved": [ids], "refused": refused_steps(), "publish", "at", "moves"}.
--
-- Locks: lock_with_children, then a re-check. A repeat moves nothing and refuses nothing that is enqueued,
-- ready or pending, and returns what is still to be published.
create or replace function tasker.retry_steps(
    p_steps bigint[], p_tasks uuid[], p_actor text, p_reason text, p_moves boolean)
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
    v_ids constant bigint[] := p_steps || array(
        select id from tasker.steps where task_id = any (p_tasks) and state = 'error');
    v_failed bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform tasker.lock_with_children(v_ids, '{}');
    v_failed := array(select id from tasker.steps where id = any (v_ids) and state = 'error');
    update tasker.steps
    set failures = 0, losses = 0, republished = 0, given_back = 0, alone = false
    where id = any (v_failed);
    update tasker.tasks
    set deadline_at = null
    where id = any (array(select task_id from tasker.steps where id = any (v_failed))) and deadline_at <= v_now;
    v_moves := tasker.offer_steps(v_failed, 'error', v_now, p_actor, coalesce(p_reason, 'retry'));
    perform tasker.advance_tasks(v_moves, v_now, p_actor, null);

    return json_build_object(
        'moved', v_failed,
        'refused', tasker.refused_steps(v_ids, v_moves, '{pending,enqueued,ready}'),
        'publish', tasker.publication(v_ids),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
