"""Commands of Tasker in processes of their own, which never outlive this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from tasker.dev.reload import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tasker.dev.reload import Loaded

STOP_SECONDS = 10.0


class Attached:
    """`tasker ARGUMENTS...` as a direct child; make it in the main thread, whose end ends it.

    It runs in a session of its own, so that Ctrl-C reaches this process alone, which then ends the command in
    good order. `variables` are added to its environment. With `reports`, it loads the application that
    TASKER_APP names and says what belongs to it. Output goes to `log`, else where this process's goes.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str],
        reports: bool = False,
        cwd: Path | None = None,
        log: IO[bytes] | None = None,
    ) -> None:
        self._reader, writer = os.pipe() if reports else (-1, -1)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasker.dev.attached", str(os.getpid()), str(writer), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **variables},
                pass_fds=[writer] if reports else [],
                start_new_session=True,
            )
        finally:
            if reports:
                os.close(writer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def loaded(self) -> Loaded:
        """What the application consists of, as soon as it is loaded; empty when the process died before."""
        with os.fdopen(self._reader) as pipe:
            text = pipe.read()
        found: Loaded = json.loads(text) if text else NOTHING
        return found

    def ended(self, within_seconds: float = 0) -> int | None:
        """The exit code once the process has ended, None while it runs; waits for that long."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(within_seconds)
        return None

    def terminate(self) -> None:
        """Tell it to stop: a worker finishes the steps it runs first. Repeats safely."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it now, with whatever it has started. Repeats safely."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Let it finish the steps it runs, for up to 10 s; then end it. Repeats safely."""
        self.terminate()
        if self.ended(STOP_SECONDS) is None:
            self.kill()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block as Ctrl-C does: with KeyboardInterrupt."""
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
