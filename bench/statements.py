"""How many statements the processes that run handlers send to PostgreSQL, counted where they are sent."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any

from tasker.db.engine import Database

COUNTER = "BENCH_STATEMENTS"
"""Names the file in which a worker counts; without it nothing is counted."""

SLOTS = 4096
SLOT = struct.Struct("q")


def count_in_children(path: Path) -> None:
    """From now on each child of this process counts its calls of the database, in a place of its own.

    A call is one statement and one round trip.
    """
    shared = _shared(path)
    main = os.getpid()
    call = Database.call

    def counted(self: Database, *args: Any, **kwargs: Any) -> Any:
        if os.getpid() != main:
            place = SLOT.size * (os.getpid() % SLOTS)
            SLOT.pack_into(shared, place, SLOT.unpack_from(shared, place)[0] + 1)
        return call(self, *args, **kwargs)

    Database.call = counted  # type: ignore[method-assign]


def counted_so_far(path: Path) -> int:
    """The sum over all processes."""
    shared = _shared(path)
    return sum(SLOT.unpack_from(shared, SLOT.size * slot)[0] for slot in range(SLOTS))


def _shared(path: Path) -> mmap.mmap:
    with path.open("a+b") as file:
        file.truncate(SLOTS * SLOT.size)
        return mmap.mmap(file.fileno(), SLOTS * SLOT.size)
