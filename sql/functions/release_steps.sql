-- A worker gives back steps it claimed but has not begun: in_progress → enqueued, or ready when held. No
-- failure, no loss; the attempt ends as `released`.
-- Returns {"publish", "at", "moves"}.
--
-- Locks: the steps by id; the move stays inside the active states, so the task is not touched. A repeat
-- moves nothing (no attempt is open under the claim) and answers from the state: steps of this claim that
-- are still enqueued are to be published again, those claimed since by somebody else are not.
create or replace function tasker.release_steps(p_ids bigint[], p_claim uuid, p_moves boolean)
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
    v_back bigint[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;

    perform 1 from tasker.steps where id = any (p_ids) order by id for no key update;
    v_back := array(
        select id from tasker.steps
        where id = any (p_ids) and state = 'in_progress' and claim_id = p_claim);
    update tasker.step_attempts
    set finished_at = v_now, outcome = 'released'
    where step_id = any (v_back) and claim_id = p_claim and outcome is null;
    perform tasker.offer_steps(v_back, 'in_progress', v_now, null, 'released');

    return json_build_object(
        'publish', tasker.publication(array(
            select id from tasker.steps
            where id = any (p_ids) and claim_id = p_claim and state = 'enqueued')),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from tasker.steps where id = any (v_back)), v_mark, v_now)
        end);
end
$$;
