-- Stores one version of a template: its definition, and the rows of steps and edges that submit copies.
--
-- p_definition: canonical JSON of domain/templates.py, already checked there. p_queue: queue of the steps
-- that name none (the app's default queue).
-- Returns {"id", "created"}. The same version with another digest raises TK005 and carries the stored
-- definition in DETAIL. A repeat stores nothing, but moves steps without a queue of their own to p_queue,
-- so that a worker's app decides and not whichever client submitted first.
-- Locks: the unique index on (namespace, name, version) makes a concurrent registration wait; the rows of
-- new queues by name.
create or replace function tasker.register_template(
    p_definition jsonb, p_digest text, p_version_key text, p_queue text)
returns json
language plpgsql
volatile
as $$
declare
    v_now constant timestamptz := tasker.clock();
    v_steps constant jsonb := p_definition -> 'steps';
    v_id integer;
    v_stored tasker.templates;
begin
    insert into tasker.templates (
        namespace, name, version, version_key, definition, digest, schema_digest, steps_total, roots_total,
        deadline_ms, created_at)
    values (
        p_definition ->> 'namespace', p_definition ->> 'name', p_definition ->> 'version', p_version_key,
        p_definition, p_digest,
        encode(sha256(convert_to(nullif(p_definition -> 'context_schema', 'null')::text, 'UTF8')), 'hex'),
        jsonb_array_length(v_steps),
        (select count(*) from jsonb_array_elements(v_steps) s where s -> 'depends_on' = '[]'),
        (p_definition ->> 'deadline_ms')::bigint, v_now)
    on conflict (namespace, name, version) do nothing
    returning id into v_id;

    if v_id is null then
        select * into v_stored
        from tasker.templates
        where namespace = p_definition ->> 'namespace'
          and name = p_definition ->> 'name'
          and version = p_definition ->> 'version';
        if v_stored.digest <> p_digest then
            raise exception using
                errcode = 'TK005',
                message = format('template %s/%s@%s is stored with another definition',
                    v_stored.namespace, v_stored.name, v_stored.version),
                detail = v_stored.definition::text;
        end if;
        insert into tasker.queues (name) values (p_queue) on conflict (name) do nothing;
        update tasker.template_steps
        set queue = p_queue
        where template_id = v_stored.id and declared_queue is null and queue <> p_queue;
        return json_build_object('id', v_stored.id, 'created', false);
    end if;

    insert into tasker.template_steps (
        template_id, ordinal, name, handler, queue, declared_queue, priority, parents, timeout_ms,
        max_attempts, retry, config, transactional, start_within_ms, max_batch)
    select v_id, n - 1, s ->> 'name', s ->> 'handler', coalesce(s ->> 'queue', p_queue), s ->> 'queue',
        (s ->> 'priority')::integer, jsonb_array_length(s -> 'depends_on'), (s ->> 'timeout_ms')::integer,
        (s -> 'retry' ->> 'max_attempts')::integer, s -> 'retry', nullif(s -> 'config', '{}'),
        coalesce((s ->> 'transactional')::boolean, false), (s ->> 'start_within_ms')::integer,
        (s ->> 'max_batch')::integer
    from jsonb_array_elements(v_steps) with ordinality as steps (s, n);

    insert into tasker.template_edges (template_id, parent, child)
    select v_id, parents.ordinal, n - 1
    from jsonb_array_elements(v_steps) with ordinality as steps (s, n)
    cross join jsonb_array_elements_text(s -> 'depends_on') as needed (parent)
    join tasker.template_steps parents on parents.template_id = v_id and parents.name = needed.parent;

    insert into tasker.queues (name)
    select distinct queue from tasker.template_steps where template_id = v_id order by queue
    on conflict (name) do nothing;

    return json_build_object('id', v_id, 'created', true);
end
$$;
