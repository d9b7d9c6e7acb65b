"""Who this process is to the database: a worker row of its own, renewed when it was taken for dead."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING
from uuid import uuid4

from tasker.db import functions
from tasker.domain.errors import WorkerStopped
from tasker.domain.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker.db.engine import Database


class Identity:
    """The worker ids of a main process and, after a fork, of each child. Safe to share by threads."""

    def __init__(
        self, database: Database, kind: str, queues: Sequence[str], handlers: Sequence[str], *, slots: int = 1
    ) -> None:
        """`slots`: how many messages the main process runs at once, in children or threads."""
        self.host = socket.gethostname()
        self.instance = uuid4()
        self.main_pid = os.getpid()
        self._database = database
        self._kind = kind
        self._queues = queues
        self._handlers = handlers
        self._slots = slots
        self._id: int | None = None
        self._lock = threading.Lock()
        forget_after_fork(self)

    @property
    def is_main(self) -> bool:
        """Whether this process is the main one, not a child of it."""
        return os.getpid() == self.main_pid

    def worker(self) -> int:
        """This process's worker id, registered at first need.

        Raises WorkerStopped in a child whose main is not registered at the moment.
        """
        with self._lock:
            if self._id is None:
                self._id = self._register()
            return self._id

    def renew(self, stopped: int) -> None:
        """Forget `stopped`, whose row was stopped; the next call of `worker` registers anew.

        Nothing happens when another thread has done so already.
        """
        with self._lock:
            if self._id == stopped:
                self._id = None

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
                self._slots,
            )
        parent = self._database.call(functions.find_main, self.instance)
        if parent is None:
            raise WorkerStopped(f"the main process {self.main_pid} of this worker is not registered")
        return self._database.call(
            functions.register_worker, parent, "child", self.instance, self.host, pid, (), ()
        )

    def after_fork(self) -> None:
        """In a new child: the id is the parent's, and a lock held at the fork would never be freed."""
        self._id = None
        self._lock = threading.Lock()
