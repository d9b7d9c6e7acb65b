-- Tasks, their steps, and what happened to them.

create table tasker.tasks (
    id              uuid primary key,
    template_id     integer not null references tasker.templates,
    namespace       text not null,
    name            text not null,
    state           tasker.task_state not null,
    priority        integer not null,
    context         jsonb not null,
    tags            text[] not null default '{}',
    initiator       text,
    source_system   text,
    reason          text,
    correlation_id  uuid not null,
    parent_correlation_id uuid,
    idempotency_key text,
    request_digest  text not null,
    requested_at    timestamptz,
    created_at      timestamptz not null,
    run_after       timestamptz,
    -- null: none, or it has passed and was dealt with
    deadline_at     timestamptz,
    finished_at     timestamptz,
    steps_total     integer not null,
    -- open: not in {complete, skipped, resolved_manually, cancelled}; active: {ready, enqueued,
    -- in_progress, waiting_for_retry, waiting}; failed: {error}. Changed only under this row's lock.
    steps_open      integer not null,
    steps_active    integer not null,
    steps_failed    integer not null,
    constraint counters_agree check (
        steps_active >= 0 and steps_failed >= 0 and steps_active + steps_failed <= steps_open
        and steps_open <= steps_total),
    constraint complete_has_nothing_open check (state <> 'complete' or steps_open = 0),
    constraint in_progress_can_move check (state <> 'in_progress' or steps_active > 0)
) with (fillfactor = 70);
create unique index tasks_idempotency on tasker.tasks (namespace, name, idempotency_key)
    where idempotency_key is not null;
-- Access paths of operators; no successful step changes a column of theirs, so updates stay HOT. Neither
-- has `id`: on a small table the planner would take it for as good as the primary key, and keep that plan.
create index tasks_newest on tasker.tasks (created_at);
create index tasks_with_failures on tasker.tasks (created_at) where steps_failed > 0;

create index tasks_deadline on tasker.tasks (deadline_at) where deadline_at is not null;

-- HOT updates keep the chained path cheap: no index here, key or predicate, names a column that every
-- move changes. run_after, ready_at and enqueued_at stay null on it.
create table tasker.steps (
    id           bigint generated always as identity primary key,
    task_id      uuid not null references tasker.tasks,
    template_id  integer not null,
    ordinal      integer not null,
    name         text not null,
    queue        text not null,
    priority     integer not null,
    state        tasker.step_state not null,
    parents_left integer not null check (parents_left >= 0),
    attempt      integer not null default 0,
    failures     integer not null default 0,
    losses       integer not null default 0,
    -- publishes by the lost-message rules since the last claim
    republished  integer not null default 0,
    -- times given back for want of its handler since the last claim
    given_back   integer not null default 0,
    -- set once a worker died while this step shared its claim: from then on it travels by itself
    alone        boolean not null default false,
    claim_id     uuid,
    worker_id    integer,
    -- due time of waiting and waiting_for_retry
    run_after    timestamptz,
    -- since when the step may run but is held; null while its own task is paused
    ready_at     timestamptz,
    -- when the newest message was published; null for a step its parents' worker kept
    enqueued_at  timestamptz,
    -- copied from the template, so that no move has to look there
    start_within_ms integer,
    -- by when it has to be claimed: set while enqueued or ready if it may not wait for ever
    start_by     timestamptz,
    changed_at   timestamptz not null,
    unique (task_id, name)
) with (fillfactor = 50);
-- A statement that knows its ids must not state the predicate of a partial index: analysed while the index
-- is nearly empty, the planner reads all of it instead, and goes on so when a backlog has grown.
create index steps_due on tasker.steps (run_after) where run_after is not null;
create index steps_held on tasker.steps (queue, priority desc, ready_at) where ready_at is not null;
create index steps_held_longest on tasker.steps (queue, ready_at) where ready_at is not null;
create index steps_start_by on tasker.steps (start_by) where start_by is not null;
create index steps_published on tasker.steps (queue, enqueued_at) where enqueued_at is not null;

create table tasker.step_edges (
    parent_id bigint not null,
    child_id  bigint not null,
    primary key (parent_id, child_id)
);
create index step_edges_by_child on tasker.step_edges (child_id);

-- One row per claim of a step. outcome is null while it runs.
create table tasker.step_attempts (
    step_id     bigint not null,
    attempt     integer not null,
    claim_id    uuid not null,
    worker_id   integer,
    claimed_at  timestamptz not null,
    started_at  timestamptz,
    finished_at timestamptz,
    outcome     tasker.attempt_outcome,
    result      jsonb,
    error       jsonb,
    -- what a fenced worker reported after its attempt had been ended by somebody else
    late        jsonb,
    primary key (step_id, attempt)
) with (fillfactor = 70);
create index step_attempts_running on tasker.step_attempts (worker_id) where finished_at is null;

-- The lifecycle log, append-only. step_id null: the task itself moved.
create table tasker.transitions (
    seq        bigint generated always as identity primary key,
    task_id    uuid not null,
    step_id    bigint,
    from_state text,
    to_state   text not null,
    attempt    integer,
    at         timestamptz not null,
    actor      text,
    reason     text,
    detail     jsonb
);
create index transitions_of_task on tasker.transitions (task_id, seq);
-- Calls note where the log stands by the sequence's last value, which says so once one was drawn.
select nextval('tasker.transitions_seq_seq');
