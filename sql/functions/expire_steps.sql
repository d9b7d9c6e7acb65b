-- Ends steps that nobody has begun in time (`start_within_seconds` of the template): enqueued or ready, held
-- ones too, becomes error with a dead letter of reason `start_timeout` and an error of type StartTimeout. It is
-- not retried. Their tasks settle if nothing else can run.
-- Returns {"moved": n, "at", "moves"}; at most p_limit steps a call.
--
-- Locks: lock_with_children, then a re-check: a claim that came first wins. A repeat finds no start_by.
create or replace function tasker.expire_steps(p_limit integer, p_moves boolean)
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
    v_late bigint[];
    v_moves tasker.step_move[];
begin
    perform tasker.assert_read_committed();
    if p_moves then
        select last_value into v_mark from tasker.transitions_seq_seq;
    end if;
    v_late := array(
        select id from tasker.steps where start_by <= v_now order by start_by limit p_limit);
    if cardinality(v_late) = 0 then
        return json_build_object('moved', 0, 'at', v_now);
    end if;
    perform tasker.lock_with_children(v_late, '{}');
    v_late := array(
        -- coalesce: by the index of start_by a plan would read all of them
        select id from tasker.steps
        where id = any (v_late) and coalesce(start_by, 'infinity') <= v_now);
    v_moves := tasker.move_steps(v_late, '{ready,enqueued}', 'error', v_now, null, 'start_timeout');
    perform tasker.advance_tasks(v_moves, v_now, null, null);

    return json_build_object(
        'moved', cardinality(v_moves),
        'at', v_now,
        'moves', case
            when p_moves then tasker.moves_since(
                array(select distinct task_id from unnest(v_moves)), v_mark, v_now)
        end);
end
$$;
