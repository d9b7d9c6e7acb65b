"""Runs `tasker` commands, each in a process of its own, but imports what they need only once.

Importing takes far longer than most commands. Run as a script, it serves the socket whose descriptor is its
argument: a line of JSON for each command, answered by a line with its exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

PRELOADED = (
    "alembic.command",
    "kombu.transport.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "tasker.cli.config",
    "tasker.cli.db",
    "tasker.cli.doctor",
    "tasker.cli.processes",
    "tasker.cli.step",
    "tasker.cli.task",
    "tasker.cli.template",
    "tasker.db.diagnosis",
    "tasker.db.migrate",
    "tasker.observability.logs",
    "tasker.orchestration.client",
    "tasker.orchestration.doctor",
    "tasker.worker.broker_check",
    "tasker.worker.launch",
    "tasker.worker.template",
    "tasker.worker.yaml_file",
)
SECONDS = 60


class Commands:
    """Starts the script, and commands through it."""

    def __init__(self, root: Path) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(SECONDS)
        self._answers = self._ours.makefile()
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": str(root)},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def run(self, arguments: list[str], folder: Path, environment: dict[str, str], files: list[Path]) -> int:
        """The exit code of `tasker ARGUMENTS`; `files` are its standard input, output and error."""
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "files": list(map(str, files)),
        }
        self._ours.sendall(f"{json.dumps(request)}\n".encode())
        return int(self._answers.readline())

    def close(self) -> None:
        """End the script."""
        self._answers.close()
        self._ours.close()
        self._server.kill()
        self._server.wait()


def serve(channel: socket.socket) -> None:
    """Run the commands that are asked for, one after the other, until nobody asks any more."""
    for module in PRELOADED:
        import_module(module)
    for line in channel.makefile():
        child = os.fork()
        if not child:
            become(json.loads(line))
        _, status = os.waitpid(child, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request: dict[str, Any]) -> NoReturn:
    """Be the command, in a process that has everything imported."""
    from tasker.cli.main import main

    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, file in enumerate(request["files"]):
        os.dup2(os.open(file, os.O_WRONLY if number else os.O_RDONLY), number)
    sys.argv = ["tasker", *request["arguments"]]
    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
