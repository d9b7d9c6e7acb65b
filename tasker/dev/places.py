"""Folders for sockets and, where PostgreSQL's user cannot reach `.tasker`, for its data."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasker.domain.errors import SettingsError

if TYPE_CHECKING:
    from tasker.dev.users import User

SOCKET_PATH_BYTES = 103
"""The shortest limit of the systems we run on (macOS; Linux has 107)."""

LONGEST_SOCKET = "0123456789ab/.s.PGSQL.5432"


def private_folder(user: User | None) -> Path:
    """The one folder of ours under the system's temporary folder; `user` can pass through it, not list it.

    Raises SettingsError when its name is taken by somebody else.
    """
    name = _private_name()
    candidates = dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp")))  # noqa: S108 - owner is checked
    for parent in candidates:
        fits = len(os.fsencode(parent / name / LONGEST_SOCKET)) <= SOCKET_PATH_BYTES
        if fits and (user is None or user.can_enter(parent)):
            return _ours(parent / name, 0o700 if user is None else 0o711)
    tried = " and ".join(map(str, candidates))
    raise SettingsError(
        f"no temporary folder is short and open enough for sockets (tried {tried}); set TMPDIR"
    )


def socket_folder(data_dir: Path, user: User | None) -> Path:
    """A folder, private to the server's user, that belongs to `data_dir`: the same one at every start."""
    key = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    folder = private_folder(user) / key
    folder.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(folder, user.uid, user.gid)
    return folder


def is_socket_folder(folder: Path) -> bool:
    """Whether `folder` is one that `socket_folder` makes for this user."""
    return folder.parent.name == _private_name()


def leave(folder: Path) -> None:
    """Remove a socket folder that holds neither sockets nor data any more."""
    with suppress(OSError):
        folder.rmdir()


def data_folder(data_dir: Path) -> Path:
    """`data_dir` as an absolute path, made when missing. Raises SettingsError when that is not allowed."""
    data_dir = data_dir.absolute()
    if not data_dir.is_dir():
        try:
            data_dir.mkdir(parents=True)
            # Root lets PostgreSQL's user pass through to its own folder inside.
            data_dir.chmod(0o700 if os.geteuid() else 0o711)
            (data_dir / ".gitignore").write_text("*\n")
        except OSError as error:
            raise SettingsError(
                f"cannot make {data_dir}: {error.strerror}; set TASKER_DATA_DIR to another folder"
            ) from error
    return data_dir


def _private_name() -> str:
    return f"tasker-{os.geteuid()}"


def _ours(folder: Path, mode: int) -> Path:
    if not folder.exists():
        staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        staging.chmod(mode)
        try:
            staging.rename(folder)
        except OSError:
            shutil.rmtree(staging)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SettingsError(
            f"{folder} is not a private folder of this user; remove it or set TMPDIR to another place"
        )
    return folder
