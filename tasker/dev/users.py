"""Who runs PostgreSQL when we are root, which it refuses to be."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tasker.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

PREFERRED = ("postgres", "nobody", "daemon")


class User(NamedTuple):
    """An existing account of this machine."""

    name: str
    uid: int
    gid: int

    def can(self, *command: str) -> bool:
        """Whether `command` starts and succeeds when this user runs it."""
        try:
            done = subprocess.run(
                command,
                user=self.uid,
                group=self.gid,
                extra_groups=(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except OSError:
            return False
        return done.returncode == 0

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can reach files inside `folder`, whose parents count too."""
        return self.can("/bin/sh", "-c", 'cd "$1"', "sh", str(folder))


def server_user(data_dir: Path) -> User | None:
    """The user to run PostgreSQL as; None for ourselves.

    As root it is the owner of the cluster found in `data_dir`, else an unprivileged account. Raises
    SettingsError when the machine has none.
    """
    if os.geteuid() != 0:
        return None
    owners = {path.stat().st_uid for path in data_dir.glob("postgres-*/") if path.exists()}
    accounts = [User(entry.pw_name, entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall() if entry.pw_uid]
    order = {name: rank for rank, name in enumerate(PREFERRED)}
    accounts.sort(key=lambda user: (user.uid not in owners, order.get(user.name, len(order))))
    if not accounts:
        raise SettingsError(
            "PostgreSQL refuses to run as root and this machine has no other account; "
            "create one (`useradd --system postgres`) or set TASKER_DATABASE_URL"
        )
    return accounts[0]
