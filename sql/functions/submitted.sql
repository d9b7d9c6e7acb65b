-- The tasks that a set of submit requests ended with: [{"id", "created", "state"}, …] in the order asked.
-- A request that created nothing is answered with the task of its id, else of its idempotency key; if that
-- was submitted with another template or context, TK004 refuses the set. Reads only.
create or replace function tasker.submitted(p_requests jsonb, p_created uuid[])
returns json
language plpgsql
volatile
as $$
declare
    v_all constant boolean := cardinality(p_created) = jsonb_array_length(p_requests);
    v_tasks json;
    v_conflict text;
begin
    with answer as materialized (
        select r.n, coalesce(same.id, keyed.id) as id, coalesce(same.state, keyed.state) as state,
            v_all or same.id = any (p_created) as created,
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
    select json_agg(json_build_object('id', id, 'created', coalesce(created, false), 'state', state)
            order by n),
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
