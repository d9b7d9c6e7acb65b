-- Dead letters: one row for each time a step ended in error, kept for whoever repairs it and for whoever asks
-- later what kept failing. Open while the step is in error.

create table tasker.dead_letters (
    id             bigint generated always as identity primary key,
    task_id        uuid not null,
    -- null: the task as a whole
    step_id        bigint,
    -- exhausted: no attempt was left; permanent: the handler's error asked for no other; worker_lost: it lost
    -- too many workers; unclaimable: no publication got claimed; deadline, start_timeout: it was late;
    -- parked: an operator took it out
    reason         text not null check (reason in (
        'exhausted', 'permanent', 'worker_lost', 'unclaimable', 'deadline', 'start_timeout', 'parked')),
    -- equal for errors that are alike: error_fingerprint
    fingerprint    text not null,
    error          jsonb not null,
    -- how the step stood, by bury_steps
    snapshot       jsonb not null,
    created_at     timestamptz not null,
    closed_at      timestamptz,
    closed_by      text,
    closed_because text
);
create unique index dead_letters_open on tasker.dead_letters (step_id) where closed_at is null;
create index dead_letters_alike on tasker.dead_letters (fingerprint, id);
