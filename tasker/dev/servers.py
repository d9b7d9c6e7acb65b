"""The embedded PostgreSQL and Redis of one data folder, and how other terminals find them."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from tasker.dev.child import POLL_SECONDS, STOP_SECONDS
from tasker.dev.places import data_folder, is_socket_folder
from tasker.dev.postgres import VERSION, postgres_answers, start_postgres
from tasker.dev.redis import redis_answers, start_redis
from tasker.domain.errors import SettingsError, StateConflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasker.dev.child import Child

DEV_FILE = "dev.json"
PUBLISHED = ("database_url", "broker_url", "pid")
LOCK_FILE = "lock"
GRACE_SECONDS = 1.0
"""How long a system may seem to run after its process was killed: a kill takes effect a little later."""


@dataclass(frozen=True)
class DevSystem:
    """A running development system: where to connect, and the process it lives and dies with."""

    database_url: str
    broker_url: str
    pid: int
    servers: Sequence[Child] = field(default=(), compare=False)
    """Those that this process has started."""

    def assert_runs(self) -> None:
        """Raises Unreachable, with the end of its log, when a server that this process started has ended."""
        for server in self.servers:
            server.assert_runs()


@contextmanager
def start(
    data_dir: Path,
    *,
    database_url: str | None = None,
    broker_url: str | None = None,
    postgres_version: int = VERSION,
    durable: bool = True,
) -> Iterator[DevSystem]:
    """Run what is not configured: PostgreSQL unless `database_url`, Redis unless `broker_url`.

    Call it in the main thread: the servers end with the thread that started them. While it runs,
    `running(data_dir)` finds it from any process of this user. Raises StateConflict when `data_dir` is
    in use, SettingsError when a program is missing, Unreachable when a server does not start.
    """
    home = data_folder(data_dir)
    with ExitStack() as stack:
        held = (stack.enter_context(_exclusive(home)),)
        servers: list[Child] = []
        if database_url is None:
            postgres = start_postgres(
                home, version=postgres_version, durable=durable, held=held, started=servers.append
            )
            database_url = stack.enter_context(postgres)
        if broker_url is None:
            redis = start_redis(home, durable=durable, held=held, started=servers.append)
            broker_url = stack.enter_context(redis)
        system = DevSystem(database_url, broker_url, os.getpid(), servers)
        stack.enter_context(_published(home, system))
        yield system


def running(data_dir: Path) -> DevSystem | None:
    """The system that runs on `data_dir`, or None: its process is alive and its own servers answer."""
    try:
        with (data_dir / DEV_FILE).open() as file:
            if _locked(file.fileno(), fcntl.LOCK_SH):
                return None
            found = json.load(file)
        system = DevSystem(str(found["database_url"]), str(found["broker_url"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return system if _answers(system.database_url) and _answers(system.broker_url) else None


@contextmanager
def _exclusive(home: Path) -> Iterator[int]:
    """Hold `home` alone; the descriptor is passed on to the servers, so the last of them frees it.

    So after a `kill -9` the next start waits until the servers of the killed process are gone too.
    """
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(
            f"cannot use {home}: {error.strerror}; set TASKER_DATA_DIR to another folder"
        ) from error
    try:
        began = time.monotonic()
        while not _locked(descriptor, fcntl.LOCK_EX):
            other = running(home)
            if time.monotonic() - began > (GRACE_SECONDS if other else STOP_SECONDS):
                user = f"process {other.pid}" if other else "another process"
                raise StateConflict(f"{home} is in use by {user}; stop it or set TASKER_DATA_DIR")
            time.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _published(home: Path, system: DevSystem) -> Iterator[None]:
    """Write the file that `running` reads; its lock, unlike a pid, says that this very process lives."""
    path = home / DEV_FILE
    fresh = home / f"{DEV_FILE}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({name: getattr(system, name) for name in PUBLISHED}, file)
        file.flush()
        fresh.replace(path)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _answers(url: str) -> bool:
    """Whether the embedded server of this URL answers; one that was configured is not ours to ask."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        sockets = Path(unquote(parts.path)).parent
        return not is_socket_folder(sockets) or redis_answers(sockets)
    sockets = Path(parse_qs(parts.query).get("host", [""])[0])
    return not is_socket_folder(sockets) or postgres_answers(sockets)
