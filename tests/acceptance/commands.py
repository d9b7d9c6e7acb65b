"""`tasker` as people run it: in a folder of theirs, with nothing configured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.system import PATIENCE_SECONDS, ROOT, eventually
from tests.processes import children, descendants, living, program_of

CONFIGURED = ("TASKER_", "DATABASE_URL", "CELERY_")


def unconfigured() -> dict[str, str]:
    """This process's environment, without servers or settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURED)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=unconfigured() | variables,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )


class Running:
    """A command that goes on, and what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self._seen: set[int] = set()

    def output(self) -> str:
        return self._log.read_text()

    def await_output(self, text: str, times: int = 1) -> None:
        """Wait until it has printed `text` so often."""

        def printed() -> bool:
            ended = self.process.poll()
            assert ended is None, f"ended with {ended}:\n{self.output()}"
            return self.output().count(text) >= times

        eventually(printed, f"{text!r} is printed {times} times")

    def end(self, number: int, to: str | None = None) -> int:
        """Send a signal to it, or to the child of it that runs the program `to`.

        Returns the exit code, once the command and whatever it has started are gone.
        """
        family = descendants(self.process.pid)
        named = [pid for pid in children(self.process.pid) if to and program_of(pid) == to]
        (target,) = named if to else [self.process.pid]
        os.kill(target, number)
        code = self.process.wait(PATIENCE_SECONDS)
        eventually(lambda: not living(family), f"of {family} no process is left")
        return code


@contextmanager
def tasker(folder: Path, *arguments: str, **variables: str) -> Iterator[Running]:
    """`tasker ARGUMENTS…` in a folder; killed at the end of the block if it still runs."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasker", *arguments],
            cwd=folder,
            env=unconfigured() | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Running(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
