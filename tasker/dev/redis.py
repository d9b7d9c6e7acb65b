"""An embedded Redis on a private socket."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from tasker.dev.binaries import redis_server
from tasker.dev.child import Child
from tasker.dev.places import data_folder, leave, socket_folder
from tasker.dev.users import server_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SOCKET_NAME = "redis.sock"


@contextmanager
def start_redis(
    data_dir: Path,
    *,
    durable: bool = True,
    held: Sequence[int] = (),
    started: Callable[[Child], object] | None = None,
) -> Iterator[str]:
    """Run Redis with its data in `data_dir`; yields the URL of its database 0 in Celery's notation.

    `durable=False` keeps nothing. `started` is told of the server once it answers. Nobody else may use
    `data_dir` meanwhile. Raises SettingsError when there is no program to run, Unreachable with the end of
    the log when it does not start.
    """
    home = data_folder(data_dir)
    data = home / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    sockets = socket_folder(home, server_user(home))
    path = sockets / SOCKET_NAME
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "databases": "64",
        "daemonize": "no",
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    server = Child([str(redis_server()), *options], log=home / "redis.log", name="Redis", held=held)
    try:
        server.await_ready(lambda: redis_answers(sockets))
        if started is not None:
            started(server)
        yield f"redis+socket://{quote(str(path), safe='/')}?virtual_host=0"
    finally:
        server.stop()
        leave(sockets)


def redis_answers(sockets: Path) -> bool:
    """Whether the server behind this socket folder serves commands now (it does not while loading)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(sockets / SOCKET_NAME))
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
        except OSError:
            return False
