-- The states as domains: a column of one refuses any other word, and PostgreSQL reads the list once a session.
-- A check of the table would be read anew by every statement that writes a row, which cost 6 % of a chain.
-- domain/states.py has the moves between them; a test proves the words equal.

create domain tasker.step_state as text check (value in (
    'pending', 'ready', 'enqueued', 'in_progress', 'waiting_for_retry', 'waiting', 'complete', 'skipped',
    'error', 'cancelled', 'resolved_manually'));

create domain tasker.task_state as text check (value in (
    'pending', 'in_progress', 'paused', 'complete', 'error', 'cancelled', 'resolved_manually'));

create domain tasker.attempt_outcome as text check (value in (
    'complete', 'retry', 'error', 'released', 'lost', 'cancelled', 'skipped', 'resolved_manually'));

-- What a function did to one step; the currency between the functions of this schema.
create type tasker.step_move as (
    task_id    uuid,
    step_id    bigint,
    from_state text,
    to_state   text
);

-- What a worker that reports may keep of the steps its report sets free: see advance_tasks.
create type tasker.keeper as (
    worker    integer,
    claim     uuid,
    queue     text,
    handlers  text[],
    budget_ms real,
    most      integer
);
