"""What the SQL functions of the hot path answer, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from uuid import UUID

Transition: TypeAlias = dict[str, Any]
"""One row of the lifecycle log, as `moves_since` gives it."""

Group: TypeAlias = tuple[str, float | None, int | None, list[int]]
"""Steps to publish: queue, expected milliseconds of each (None unknown), the most that a message with one of
them may hold (None as many as fit), step ids."""


class ClaimedStep(NamedTuple):
    """A step this worker has in progress, with all it needs to run it.

    `results` is None where the parents are too many to be sent along. `attempt` numbers the claims; what a
    handler sees is `failures` + 1.
    """

    claim: UUID
    id: int
    task_id: str
    name: str
    handler: str
    attempt: int
    failures: int
    max_attempts: int
    never_for: list[str]
    timeout_ms: int
    config: dict[str, Any] | None
    queue: str
    parents: int
    transactional: bool
    results: dict[str, Any] | None


class Claims(NamedTuple):
    """The steps one claim won, and the context and correlation id of each task."""

    steps: list[ClaimedStep]
    contexts: dict[str, dict[str, Any]]
    moves: list[Transition]
    at: str = ""
    publish: tuple[Group, ...] = ()


class Finished(NamedTuple):
    """What recording outcomes led to: steps kept for this worker, steps to publish, outcomes refused."""

    kept: list[ClaimedStep]
    refused: list[int]
    publish: list[Group]
    at: str
    moves: list[Transition]


@dataclass(frozen=True, slots=True)
class Moved:
    """What a loop or an operator moved: how many, which, what to publish, and whom it refused.

    `closed`: how many queues have so much published that their steps wait for their turn.
    """

    count: int
    at: str
    ids: list[Any] = field(default_factory=list)
    publish: list[Group] = field(default_factory=list)
    moves: list[Transition] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    unclaimable: list[int] = field(default_factory=list)
    looked_at: int = 0
    closed: int = 0


class SubmittedTask(NamedTuple):
    """The task a request ended with; `created` is False for one that was there."""

    id: str
    created: bool
    state: str


class Submitted(NamedTuple):
    """The tasks of a set of requests in order, and what to publish for them."""

    tasks: list[SubmittedTask]
    publish: list[Group]
    at: str
    moves: list[Transition]
