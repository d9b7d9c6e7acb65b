"""Dead letters for the CLI and the API: lists, pages, and the one of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from tasker.db.queries import PAGE, fetch
from tasker.domain.errors import NotFound, ValueRefused
from tasker.domain.records import DeadLetterRecord, Page

if TYPE_CHECKING:
    from tasker.db.functions import Connection

_LETTERS: LiteralString = """
    select l.id, l.task_id, l.step_id, s.name as step, l.reason, l.fingerprint, l.error, l.snapshot,
        l.created_at, l.closed_at, l.closed_by, l.closed_because
    from tasker.dead_letters l
    left join tasker.steps s on s.id = l.step_id
    where true
"""


def list_dead_letters(
    connection: Connection,
    *,
    only_open: bool = False,
    reason: str | None = None,
    fingerprint: str | None = None,
    limit: int = PAGE,
    cursor: str | None = None,
) -> Page[DeadLetterRecord]:
    """Dead letters, newest first. Raises ValueRefused for a cursor that is none."""
    query = _LETTERS
    if only_open:
        query += " and l.closed_at is null"
    if reason is not None:
        query += " and l.reason = %(reason)s"
    if fingerprint is not None:
        query += " and l.fingerprint = %(fingerprint)s"
    if cursor is not None:
        if not cursor.isdecimal():
            raise ValueRefused(
                f'"{cursor}" is not the cursor of a list; give back `next_cursor` as it was, or none'
            )
        query += " and l.id < %(before)s::numeric"
    given = {"reason": reason, "fingerprint": fingerprint, "before": cursor, "limit": limit + 1}
    found = fetch(connection, DeadLetterRecord, query + " order by l.id desc limit %(limit)s", given)
    items = found[:limit]
    return Page(items, str(items[-1].id) if len(found) > limit else None)


def get_dead_letter(connection: Connection, letter: int) -> DeadLetterRecord:
    """A dead letter by its id. Raises NotFound."""
    for found in fetch(connection, DeadLetterRecord, _LETTERS + " and l.id = %(id)s", {"id": letter}):
        return found
    raise NotFound(f"no dead letter {letter}; see `tasker dlq list`")


def open_letter(connection: Connection, step: int) -> DeadLetterRecord | None:
    """The open dead letter of a step, by the step's id; None for a step that is not in error."""
    query = _LETTERS + " and l.step_id = %(step)s and l.closed_at is null"
    return next(iter(fetch(connection, DeadLetterRecord, query, {"step": step})), None)
