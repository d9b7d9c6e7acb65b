"""Server processes that live exactly as long as the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tasker.domain.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasker.dev.users import User

START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.01
LOG_TAIL_LINES = 15


Shutdown: TypeAlias = tuple[signal.Signals, ...]
"""The signals that end a server, gentlest first; the first is also sent when the parent dies."""

POSTGRES_SHUTDOWN = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""PostgreSQL: fast (sessions end, a checkpoint is written), immediate (the next start recovers), kill."""

PLAIN_SHUTDOWN = (signal.SIGTERM, signal.SIGKILL)


class Child:
    """A direct child that the kernel ends when the thread that made it ends; make it in the main thread.

    Its own session keeps Ctrl-C in the terminal away from it, so that whatever uses the server can stop
    first. `held` are file descriptors it keeps open for life. Errors name it by its program, or by `name`.
    Parent death is noticed on Linux only.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        name: str | None = None,
        shutdown: Shutdown = PLAIN_SHUTDOWN,
        user: User | None = None,
        held: Sequence[int] = (),
        stdin: bytes | None = None,
    ) -> None:
        self.name = name or Path(command[0]).name
        self.log = log
        self._shutdown = shutdown
        uid, gid = (user.uid, user.gid) if user else (-1, -1)
        bound = str(Path(__file__).with_name("bound.py"))
        binding = (os.getpid(), int(shutdown[0]), uid, gid)
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", bound, *map(str, binding), *command],
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_server_environment(),
                pass_fds=tuple(held),
                start_new_session=True,
            )
        if stdin is not None and self._process.stdin is not None:
            with self._process.stdin as pipe:
                pipe.write(stdin)

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        return self._process.pid

    def finish(self, seconds: float = START_SECONDS) -> None:
        """Wait for a command that ends by itself; raises Unreachable with its output when it failed."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise Unreachable(self._report(f"did not finish within {seconds:g} s")) from None
        except BaseException:
            self.stop()
            raise
        if code != 0:
            raise Unreachable(self._report(f"failed with exit code {code}"))

    def await_ready(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Return once `ready()` is true; raises Unreachable with the end of the log when it never is."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise Unreachable(self._report(f"did not answer within {seconds:g} s"))
            try:
                code = self._process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise Unreachable(self._report(f"ended at start with exit code {code}"))

    def assert_runs(self) -> None:
        """Raises Unreachable with the end of the log when the server has ended."""
        if (code := self._process.poll()) is not None:
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise Unreachable(self._report(f"has ended ({how})"))

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the server; each signal gets `seconds` before the next, harsher one. Repeats safely."""
        for number in self._shutdown:
            if self._process.poll() is not None:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue

    def _report(self, what: str) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (nothing)"
        return f"{self.name} {what}; the end of {self.log}:\n{tail}"


def _server_environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return inherited | {"LC_ALL": "C"}
