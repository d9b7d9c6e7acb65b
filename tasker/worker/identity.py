"""Who this process is to the database: a worker row of its own, renewed when it was taken for dead."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING
from uuid import uuid4

from tasker.db import functions
from tasker.domain.errors import WorkerStopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker.db.engine import Database


class Identity:
    """The worker ids of a main process and, after a fork, of each child. Safe to share by threads."""

    def __init__(self, database: Database, kind: str, queues: Sequence[str], handlers: Sequence[str]) -> None:
        self.host = socket.gethostname()
        self.instance = uuid4()
        self.main_pid = os.getpid()
        self._database = database
        self._kind = kind
        self._queues = queues
        self._handlers = handlers
        self._ids: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def is_main(self) -> bool:
        """Whether this process is the main one, not a child of it."""
        return os.getpid() == self.main_pid

    def worker(self) -> int:
        """This process's worker id, registered at first need.

        Raises WorkerStopped in a child whose main is not registered at the moment.
        """
        found = self._ids.get(os.getpid())
        if found is not None:
            return found
        with self._lock:
            if os.getpid() not in self._ids:
                self._ids[os.getpid()] = self._register()
            return self._ids[os.getpid()]

    def renew(self) -> None:
        """Forget the id, since its row was stopped; the next call of `worker` registers anew."""
        self._ids.pop(os.getpid(), None)

    def _register(self) -> int:
        pid = os.getpid()
        if self.is_main:
            return self._database.call(
                functions.register_worker,
                None,
                self._kind,
                self.instance,
                self.host,
                pid,
                self._queues,
                self._handlers,
            )
        parent = self._database.call(functions.find_main, self.instance)
        if parent is None:
            raise WorkerStopped(f"the main process {self.main_pid} of this worker is not registered")
        return self._database.call(
            functions.register_worker, parent, "child", self.instance, self.host, pid, (), ()
        )

    def after_fork(self) -> None:
        """In a new child: a lock another thread of the parent held at the fork would never be freed."""
        self._lock = threading.Lock()
