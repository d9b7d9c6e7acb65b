"""Run as a script in the new process: tie it to its parent's life, then become the server.

    python -I -S bound.py PARENT_PID SIGNAL UID GID COMMAND...

The kernel clears the parent-death signal when a process changes its user, so the change comes first.
UID -1 keeps the user. Only the standard library may be imported: the script runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def bind(parent: int, death_signal: int) -> bool:
    """Have the kernel send this process `death_signal` when its parent dies; False if that is dead already.

    Parent death is noticed on Linux only.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # A parent that died before prctl sends no signal any more.
    return os.getppid() == parent


def become(parent: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    """Replace this process by `command`; returns only when the parent is already gone."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if bind(parent, death_signal):
        os.execv(command[0], command)  # noqa: S606 - the command is an absolute path built by tasker.dev


if __name__ == "__main__":
    parent_pid, death_signal_number, user_id, group_id = map(int, sys.argv[1:5])
    become(parent_pid, death_signal_number, user_id, group_id, sys.argv[5:])
