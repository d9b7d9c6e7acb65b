"""What coordinators and operators call, for tests; the operator is always Ann, her reason always the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from tests.sql.protocol import Protocol, Reply

OPERATOR = "ann"
REASON = "seen by hand"


def stop(session: Protocol, *workers: int, beats: Sequence[int] | None = None) -> list[int]:
    """stop_workers, only while their beats are those seen if `beats` is given; returns who was stopped."""
    seen = None if beats is None else list(beats)
    stopped: list[int] = session.call("stop_workers", list(workers), seen, "silent")
    return sorted(stopped)


def beat(
    session: Protocol, worker: int, *, free: int = 0, received: Mapping[str, datetime] | None = None
) -> bool:
    """beat_worker; `received` is the newest publication time received from each queue."""
    heard = {queue: at.isoformat() for queue, at in (received or {}).items()}
    alive: bool = session.call("beat_worker", worker, free, Jsonb(heard))
    return alive


def recover(session: Protocol, *, max_losses: int = 3, limit: int = 1000, moves: bool = False) -> Reply:
    """recover_steps."""
    reply: Reply = session.call("recover_steps", max_losses, limit, moves)
    return reply


def time_out(session: Protocol, attempts: Mapping[int, int], *, moves: bool = False) -> Reply:
    """time_out_steps; the attempt numbers by step id."""
    reply: Reply = session.call("time_out_steps", list(attempts), list(attempts.values()), moves)
    return reply


def republish(
    session: Protocol,
    *,
    grace_seconds: float = 5,
    limit: int = 1000,
    probe: int = 64,
    max_publishes: int = 5,
) -> Reply:
    """republish_steps."""
    grace = timedelta(seconds=grace_seconds)
    reply: Reply = session.call("republish_steps", grace, limit, probe, max_publishes)
    return reply


def park(session: Protocol, *steps: int, moves: bool = False) -> Reply:
    """park_steps."""
    reply: Reply = session.call("park_steps", list(steps), moves)
    return reply


def park_by_hand(session: Protocol, *steps: int, reason: str | None = REASON, moves: bool = False) -> Reply:
    """park_by_hand."""
    reply: Reply = session.call("park_by_hand", list(steps), OPERATOR, reason, moves)
    return reply


def retry(session: Protocol, *steps: int, tasks: Sequence[UUID] = (), moves: bool = False) -> Reply:
    """retry_steps."""
    reply: Reply = session.call("retry_steps", list(steps), list(tasks), OPERATOR, REASON, moves)
    return reply


def skip(session: Protocol, *steps: int, moves: bool = False) -> Reply:
    """skip_steps."""
    reply: Reply = session.call("skip_steps", list(steps), OPERATOR, REASON, moves)
    return reply


def resolve(
    session: Protocol, *steps: int, results: Mapping[int, object] | None = None, moves: bool = False
) -> Reply:
    """resolve_steps; with `results` by step id the steps complete with them."""
    given = None if results is None else Jsonb({str(step): result for step, result in results.items()})
    reply: Reply = session.call("resolve_steps", list(steps), given, OPERATOR, REASON, moves)
    return reply


def cancel(session: Protocol, *tasks: UUID, moves: bool = False) -> Reply:
    """cancel_tasks."""
    reply: Reply = session.call("cancel_tasks", list(tasks), OPERATOR, REASON, moves)
    return reply


def pause(session: Protocol, *tasks: UUID, moves: bool = False) -> Reply:
    """pause_tasks."""
    reply: Reply = session.call("pause_tasks", list(tasks), OPERATOR, REASON, moves)
    return reply


def resume(session: Protocol, *tasks: UUID, moves: bool = False) -> Reply:
    """resume_tasks."""
    reply: Reply = session.call("resume_tasks", list(tasks), OPERATOR, REASON, moves)
    return reply


def pause_queues(session: Protocol, *queues: str) -> Reply:
    """pause_queues."""
    reply: Reply = session.call("pause_queues", list(queues), OPERATOR, REASON)
    return reply


def resume_queues(session: Protocol, *queues: str) -> Reply:
    """resume_queues."""
    reply: Reply = session.call("resume_queues", list(queues))
    return reply


def expire_tasks(session: Protocol, *, limit: int = 100, moves: bool = False) -> Reply:
    """expire_tasks."""
    reply: Reply = session.call("expire_tasks", limit, moves)
    return reply


def expire_steps(session: Protocol, *, limit: int = 1000, moves: bool = False) -> Reply:
    """expire_steps."""
    reply: Reply = session.call("expire_steps", limit, moves)
    return reply
