-- Templates: the versioned definitions of graphs. `definition` is for people and export; the engine
-- reads template_steps and template_edges, whose rows submit copies and claim looks up by key.

create table tasker.templates (
    id          integer generated always as identity primary key,
    namespace   text not null,
    name        text not null,
    version     text not null,
    -- sorts like SemVer precedence under "C"; made by domain/templates.py
    version_key text collate "C" not null,
    definition  jsonb not null,
    digest      text not null,
    -- of the schema that contexts must fit; null: none
    schema_digest text,
    steps_total integer not null check (steps_total > 0),
    roots_total integer not null check (roots_total > 0),
    -- of each task, from the time it may start
    deadline_ms bigint check (deadline_ms > 0),
    created_at  timestamptz not null,
    retired_at  timestamptz,
    unique (namespace, name, version)
);
create index templates_newest on tasker.templates (namespace, name, version_key desc);

create table tasker.template_steps (
    template_id  integer not null,
    ordinal      integer not null,
    name         text not null,
    handler      text not null,
    -- the queue in force; declared_queue null means "the app's default queue"
    queue          text not null,
    declared_queue text,
    priority     integer not null,
    parents      integer not null,
    timeout_ms   integer not null check (timeout_ms > 0),
    max_attempts integer not null check (max_attempts >= 1),
    retry        jsonb not null,
    config       jsonb,
    -- its handler's writes and its completion commit together
    transactional boolean not null,
    -- how long it may wait for a worker; null: for ever
    start_within_ms integer check (start_within_ms > 0),
    -- steps of a message that this one is in; null: as many as fit
    max_batch integer check (max_batch between 1 and 64),
    primary key (template_id, ordinal),
    unique (template_id, name)
);

create table tasker.template_edges (
    template_id integer not null,
    parent      integer not null,
    child       integer not null,
    primary key (template_id, parent, child)
);
