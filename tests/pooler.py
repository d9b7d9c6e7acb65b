"""PgBouncer before the tests' PostgreSQL, where Debian's package of that name is installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from tasker.dev.child import Child
from tasker.dev.places import data_folder, leave, socket_folder
from tasker.dev.users import server_user

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SERVER_CONNECTIONS = 3
"""To each database: fewer than any process wants, so that sessions change hands all the time."""

SETTINGS = """\
[databases]
* = {server}

[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {sockets}
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 500
server_idle_timeout = 1
ignore_startup_parameters = {ignored}
"""


@contextmanager
def pooler_before(
    database_url: str, folder: Path, *, ignored: str = "extra_float_digits"
) -> Iterator[Callable[[str], str]]:
    """PgBouncer in transaction mode before the server of `database_url`; what leads a URL through it."""
    assert PROGRAM is not None
    home = data_folder(folder)
    user = server_user(home)
    sockets = socket_folder(home, user)
    server = conninfo_to_dict(database_url)
    settings = sockets / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            server=" ".join(f"{name}={value}" for name, value in server.items() if name != "dbname"),
            sockets=sockets,
            connections=SERVER_CONNECTIONS,
            ignored=ignored,
        )
    )
    settings.chmod(0o644)
    shutdown = (signal.SIGINT, signal.SIGKILL)
    child = Child([PROGRAM, str(settings)], log=home / "pgbouncer.log", shutdown=shutdown, user=user)
    try:
        child.await_ready(lambda: listens(sockets / ".s.PGSQL.6432"))
        yield lambda url: urlsplit(url)._replace(query=f"host={sockets}&port=6432").geturl()
    finally:
        child.stop(seconds=1)
        settings.unlink()
        (sockets / ".s.PGSQL.6432").unlink(missing_ok=True)
        leave(sockets)


def listens(path: Path) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
