-- The moves that the log may hold, for tasks and for steps, as a table. From null: the states a row is
-- created in (a step created `pending` has no row in the log until it leaves). A test holds it equal to
-- domain/states.py. Reads nothing.
create or replace function tasker.legal_moves()
returns table (entity text, from_state text, to_state text)
language sql
immutable
as $$
    select entity, from_state, unnest(to_states)
    from (values
        ('task', null, '{pending,in_progress}'::text[]),
        ('task', 'pending', '{in_progress,cancelled}'),
        ('task', 'in_progress', '{paused,complete,error,cancelled,resolved_manually}'),
        ('task', 'paused', '{in_progress,complete,cancelled,resolved_manually}'),
        ('task', 'error', '{in_progress,complete,cancelled,resolved_manually}'),
        ('step', null, '{ready,enqueued,waiting}'),
        ('step', 'pending', '{ready,enqueued,error,complete,skipped,cancelled,resolved_manually}'),
        ('step', 'ready', '{enqueued,error,complete,skipped,cancelled,resolved_manually}'),
        ('step', 'enqueued', '{ready,in_progress,error,complete,skipped,cancelled,resolved_manually}'),
        ('step', 'in_progress',
            '{ready,enqueued,waiting_for_retry,error,complete,cancelled,resolved_manually}'),
        ('step', 'waiting_for_retry', '{ready,enqueued,error,complete,skipped,cancelled,resolved_manually}'),
        ('step', 'waiting', '{ready,enqueued,error,complete,skipped,cancelled,resolved_manually}'),
        ('step', 'error', '{pending,ready,enqueued,complete,skipped,cancelled,resolved_manually}')
    ) moves (entity, from_state, to_states)
$$;
