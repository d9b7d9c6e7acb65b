"""What a process made before a fork and its child must not use: sockets, threads, locks that were held."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """Holds something of the process that made it."""

    def after_fork(self) -> None:
        """In the child: forget what is the parent's, without closing it."""


_holders: WeakSet[Forked] = WeakSet()


def forget_after_fork(holder: Forked) -> None:
    """Call `holder.after_fork()` in every child forked while it lives."""
    _holders.add(holder)


def _in_child() -> None:
    for holder in list(_holders):
        holder.after_fork()


os.register_at_fork(after_in_child=_in_child)
