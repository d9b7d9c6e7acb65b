-- The tasks that a set of submit requests ended with: [{"id", "created", "state"}, …] in the order asked.
-- A request is answered with the task of its own id, which it created, now or in an earlier call of the same
-- request; else with that of its idempotency key. If that task was submitted with another template or
-- context, TK004 refuses the set. Reads only.
create or replace function tasker.submitted(p_requests jsonb)
returns json
language plpgsql
volatile
as $$
declare
    v_tasks json;
    v_conflict text;
begin
    with answer as materialized (
        select r.n, coalesce(same.id, keyed.id) as id, coalesce(same.state, keyed.state) as state,
            same.id is not null as created,
            coalesce(same.request_digest, keyed.request_digest) <> r.request_digest as conflict,
            r.idempotency_key
        from (
            select n, (q ->> 'id')::uuid as id, q ->> 'namespace' as namespace, q ->> 'name' as name,
                q ->> 'idempotency_key' as idempotency_key, q ->> 'request_digest' as request_digest
            from jsonb_array_elements(p_requests) with ordinality as requests (q, n)
        ) r
        left join lateral (
            select id, state, request_digest from tasker.tasks where id = r.id offset 0
        ) same on true
        left join lateral (
            select id, state, request_digest
            from tasker.tasks
            where same.id is null and namespace = r.namespace and name = r.name
              and idempotency_key = r.idempotency_key
            offset 0
        ) keyed on true
    )
    select
        coalesce(json_agg(json_build_object('id', id, 'created', created, 'state', state) order by n), '[]'),
        min(coalesce(idempotency_key, id::text)) filter (where conflict)
    into v_tasks, v_conflict
    from answer;

    if v_conflict is not null then
        raise exception using
            errcode = 'TK004',
            message = format('idempotency key %s belongs to a task submitted with another context',
                v_conflict),
            hint = 'Use a new key for a new request, or submit the same template and context again.';
    end if;
    return v_tasks;
end
$$;
