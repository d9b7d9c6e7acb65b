-- Gives up on enqueued steps that no publication gets claimed: error, reason `unclaimable`. Their tasks
-- settle if nothing else can run. Returns {"moved": n, "at", "moves"}.
--
-- Locks: lock_with_children, then a re-check: a claim that came first wins. A repeat finds them in error.
create or replace function tasker.park_steps(p_ids bigint[], p_moves boolean)
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
    v_stuck bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    perform tasker.lock_with_children(p_ids, '{}');
    -- a step claimed meanwhile and given back again counts its publications anew
    v_stuck := array(
        select id from tasker.steps
        where id = any (p_ids) and state = 'enqueued' and republished > 0);
    v_moves := tasker.move_steps(v_stuck, '{enqueued}', 'error', v_now, null, 'unclaimable');
    perform tasker.advance_tasks(v_moves, v_now, null, null);
    return json_build_object(
        'moved', cardinality(v_stuck),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
