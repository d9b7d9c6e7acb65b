"""An embedded PostgreSQL on a private socket."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from tasker.dev.binaries import postgres_folder, runnable_by
from tasker.dev.child import POSTGRES_SHUTDOWN, Child
from tasker.dev.places import data_folder, leave, private_folder, socket_folder
from tasker.dev.users import User, server_user
from tasker.domain.errors import SettingsError, StateConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

NAME = "tasker"
"""The superuser and the database that a new cluster gets."""

VERSION = 18
"""The major version that runs unless another one is asked for."""

SOCKET_NAME = ".s.PGSQL.5432"
PROTOCOL_3 = 196608
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def cluster_name(version: int = VERSION) -> str:
    """What the cluster of a major version is called in its data folder: a folder, or a link to one."""
    return f"postgres-{version}"


@contextmanager
def start_postgres(
    data_dir: Path,
    *,
    version: int = VERSION,
    bin_dir: Path | None = None,
    durable: bool = True,
    held: Sequence[int] = (),
    started: Callable[[Child], object] | None = None,
) -> Iterator[str]:
    """Run PostgreSQL on the cluster kept in `data_dir`, made when missing; yields its database URL.

    `bin_dir` takes the programs from there instead of the embedded package. `durable=False` is for data
    that may be lost when the machine goes down. `started` is told of the server once it answers. Nobody else
    may use `data_dir` meanwhile. Raises SettingsError when there is no program to run, StateConflict when
    the server of a folder that was here before still runs, Unreachable with the log's end when it does not
    start.
    """
    home = data_folder(data_dir)
    user = server_user(home)
    programs = runnable_by(user, bin_dir or postgres_folder(version), private_folder(user))
    sockets = socket_folder(home, user)
    cluster = _cluster_folder(home / cluster_name(version), sockets, user)
    log = home / "postgres.log"
    if not (cluster / "PG_VERSION").exists():
        _create_cluster(programs, cluster, user, log, held)
    # Whoever holds `data_dir` knows that a lock file found here is a dead server's; PostgreSQL itself
    # would believe it as soon as another process has got the same pid, as in a restarted container.
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    settings = (
        "listen_addresses=",
        f"unix_socket_directories={sockets}",
        "unix_socket_permissions=0700",
        "max_connections=200",
        *(() if durable else NOT_DURABLE),
    )
    options = [part for setting in settings for part in ("-c", setting)]
    command = [str(programs / "postgres"), "-D", str(cluster), *options]
    server = Child(command, log=log, name="PostgreSQL", shutdown=POSTGRES_SHUTDOWN, user=user, held=held)
    try:
        server.await_ready(lambda: postgres_answers(sockets))
        if started is not None:
            started(server)
        yield f"postgresql://{NAME}@/{NAME}?host={quote(str(sockets), safe='/')}"
    finally:
        server.stop()
        leave(sockets)


def postgres_answers(sockets: Path) -> bool:
    """Whether the server behind this socket folder accepts a session of ours now."""
    words = f"user\0{NAME}\0database\0{NAME}\0\0".encode()
    hello = struct.pack("!ii", 8 + len(words), PROTOCOL_3) + words
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(sockets / SOCKET_NAME))
            connection.sendall(hello)
            return connection.recv(1) == b"R"
        except OSError:
            return False


def _cluster_folder(wanted: Path, sockets: Path, user: User | None) -> Path:
    """`wanted`, or where `user` cannot reach it, a place beside the sockets to which `wanted` is a link.

    The link is followed only when it is this folder's own: a copy of `.tasker` gets its own cluster. Without
    a link, what lies there belonged to a `.tasker` that somebody has removed or moved away, and goes.
    """
    if wanted.is_symlink():
        linked = wanted.readlink()
        if linked.parent.name == sockets.name and linked.is_dir():
            return linked
        wanted.unlink()
    if user is None or user.can_enter(wanted.parent):
        return wanted
    if wanted.exists():
        raise SettingsError(
            f"PostgreSQL runs as {user.name}, who can no longer reach its data in {wanted}; "
            "open the folders above it to that user, or remove it to begin anew"
        )
    outside = sockets / wanted.name
    if outside.exists():
        if postgres_answers(sockets):
            raise StateConflict(
                f"the PostgreSQL of a {wanted.parent} that was removed or moved away still runs "
                f"on {outside}; stop it"
            )
        shutil.rmtree(outside)
    wanted.symlink_to(outside)
    return outside


def _create_cluster(programs: Path, cluster: Path, user: User | None, log: Path, held: Sequence[int]) -> None:
    # Made beside its place and renamed, so that a half-made cluster is never taken for one.
    unfinished = cluster.with_name(f"{cluster.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if user is not None:
        os.chown(unfinished, user.uid, user.gid)
    initdb = [str(programs / "initdb"), "-D", str(unfinished), "-U", NAME, "--auth=trust", "--no-sync"]
    Child([*initdb, "--encoding=UTF8", "--locale=C"], log=log, user=user, held=held).finish()
    alone = [str(programs / "postgres"), "--single", "-D", str(unfinished), "-c", "fsync=off", "postgres"]
    Child(alone, log=log, user=user, held=held, stdin=f"create database {NAME}\n".encode()).finish()
    unfinished.rename(cluster)
