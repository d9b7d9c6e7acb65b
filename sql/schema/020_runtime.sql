-- Runtime facts the engine shares between processes.

-- One row per executing process: a worker's main, each of its children, a stand-alone coordinator.
-- `handlers` and `queues` are a main's; children inherit them through parent_id. `slots` is how many messages the
-- main runs at once, `free` how many more it could start.
create table tasker.workers (
    id         integer generated always as identity primary key,
    parent_id  integer,
    -- drawn by a main process for its life; its rows, when it has to register anew, share it
    instance   uuid not null,
    kind       text not null check (kind in ('main', 'child', 'coordinator')),
    host       text not null,
    pid        integer not null,
    queues     text[] not null default '{}',
    handlers   text[] not null default '{}',
    free       integer not null default 0,
    slots      integer not null default 1 check (slots > 0),
    started_at timestamptz not null,
    beats      bigint not null default 0,
    beat_at    timestamptz not null,
    stopped_at timestamptz,
    stopped_because text
) with (fillfactor = 70);
-- Settled in practice: a live installation holds few rows here that are not stopped.
create index workers_alive on tasker.workers (id) where stopped_at is null;

-- `received_at` is the newest publication time among messages received from the queue,
-- `heard_at` when a main last reported one; `dispatched` counts the held steps that were started.
create table tasker.queues (
    name        text primary key,
    paused_at   timestamptz,
    paused_by   text,
    paused_because text,
    -- false: so much is published that further steps wait for their turn; kept by top_up_queue
    gate_open   boolean not null default true,
    dispatched  bigint not null default 0,
    received_at timestamptz,
    heard_at    timestamptz
) with (fillfactor = 50);

-- What a handler's step is expected to take: a moving average kept by the workers.
create table tasker.handlers (
    name        text primary key,
    expected_ms real not null
) with (fillfactor = 50);

-- Paces the coordinator's loops across processes; correctness never depends on it.
create table tasker.coordinator_loops (
    name   text primary key,
    due_at timestamptz not null,
    ran_at timestamptz,
    ran_by integer
) with (fillfactor = 50);
