-- Refuses a set of submit requests of which one would make a task of a template without an active version
-- (TK003), of one whose stored definition is not the one the caller holds (TK005, with it in DETAIL), or, by a caller who holds
-- none, of one whose schema is not the one he held the context against (TK008, with the version in DETAIL). A
-- request that names a task that exists, by its id or idempotency key, makes none. Reads only.
create or replace function tasker.check_requests(p_requests jsonb)
returns void
language plpgsql
volatile
as $$
declare
    v_wrong record;
begin
    select asked.*, t.digest as stored
    into v_wrong
    from (
        select distinct r ->> 'namespace' as namespace, r ->> 'name' as name, r ->> 'version' as version,
            r ->> 'digest' as digest, r ->> 'schema' as schema
        from jsonb_array_elements(p_requests) r
    ) asked
    left join lateral (
        select digest, schema_digest
        from tasker.templates
        where namespace = asked.namespace and name = asked.name and retired_at is null
          and (asked.version is null or version = asked.version)
        order by version_key desc
        limit 1
    ) t on true
    where t.digest is null or t.digest <> asked.digest
       or asked.digest is null and t.schema_digest is distinct from asked.schema
    limit 1;

    if not found then
        return;
    end if;
    -- rarely so far: one by one, those that have been answered before left out
    select asked.*, t.digest as stored, t.version as found
    into v_wrong
    from (
        select r ->> 'namespace' as namespace, r ->> 'name' as name, r ->> 'version' as version,
            r ->> 'digest' as digest, r ->> 'schema' as schema, (r ->> 'id')::uuid as id,
            r ->> 'idempotency_key' as key
        from jsonb_array_elements(p_requests) r
    ) asked
    left join lateral (
        select digest, schema_digest, version
        from tasker.templates
        where namespace = asked.namespace and name = asked.name and retired_at is null
          and (asked.version is null or version = asked.version)
        order by version_key desc
        limit 1
    ) t on true
    left join lateral (
        select 1 as found from tasker.tasks where id = asked.id offset 0
    ) same on true
    left join lateral (
        select 1 as found
        from tasker.tasks
        where namespace = asked.namespace and name = asked.name and idempotency_key = asked.key
        offset 0
    ) keyed on true
    where same.found is null and keyed.found is null
      and (t.digest is null or t.digest <> asked.digest
          or asked.digest is null and t.schema_digest is distinct from asked.schema)
    order by t.digest is null desc, asked.digest is null
    limit 1;
    if not found then
        return;
    end if;
    if v_wrong.stored is null then
        raise exception using
            errcode = 'TK003',
            message = format('no active template %s/%s%s',
                v_wrong.namespace, v_wrong.name, '@' || v_wrong.version),
            detail = json_build_object('namespace', v_wrong.namespace, 'name', v_wrong.name,
                'version', v_wrong.version)::text,
            hint = 'See `tasker template list`; register it with `tasker -A MODULE template register`.';
    end if;
    if v_wrong.digest is null then
        raise exception using
            errcode = 'TK008',
            message = format('the context was not held against the schema of template %s/%s@%s',
                v_wrong.namespace, v_wrong.name, v_wrong.found),
            detail = json_build_object('namespace', v_wrong.namespace, 'name', v_wrong.name,
                'version', v_wrong.version, 'found', v_wrong.found)::text,
            hint = 'Pass schema_digest of the template as "schema" once the context fits its context_schema.';
    end if;
    raise exception using
        errcode = 'TK005',
        message = format('template %s/%s@%s is stored with another definition',
            v_wrong.namespace, v_wrong.name, v_wrong.version),
        detail = (
            select definition::text
            from tasker.templates
            where namespace = v_wrong.namespace and name = v_wrong.name and version = v_wrong.version),
        hint = 'Give the changed template a new version.';
end
$$;
