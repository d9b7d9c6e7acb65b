-- What has to be published for these steps: [[queue, expected_ms | null, most | null, [step ids]], …], one
-- entry per queue and handler, for the steps that are `enqueued` with a message due. The publisher cuts it into
-- messages, of at most `most` steps where one of these is among them. Reads only; called last by every function that enqueues, so a repeat of such a function
-- answers from the state it finds.
create or replace function tasker.publication(p_steps bigint[])
returns json
language plpgsql
volatile
as $$
begin
    return (
        select coalesce(json_agg(json_build_array(g.queue, h.expected_ms, g.most, g.ids)), '[]')
        from (
            select s.queue, ts.handler, own.most, array_agg(s.id order by s.id) as ids
            from (
                -- looked up by id alone: by the index of published steps a plan would read the whole backlog
                select id, template_id, ordinal, queue, alone, state, enqueued_at
                from tasker.steps
                where id = any (p_steps)
                offset 0
            ) s
            cross join lateral (
                select handler, transactional, max_batch
                from tasker.template_steps
                where template_id = s.template_id and ordinal = s.ordinal
                offset 0
            ) ts
            cross join lateral (
                select case when s.alone or ts.transactional then 1 else ts.max_batch end as most
            ) own
            where s.state = 'enqueued' and s.enqueued_at is not null
            group by s.queue, ts.handler, own.most
        ) g
        left join lateral (
            select expected_ms from tasker.handlers where name = g.handler offset 0
        ) h on true
    );
end
$$;
