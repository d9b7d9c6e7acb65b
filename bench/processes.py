"""Workers of the sides, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10
CONCURRENCY = 2


@contextmanager
def python(folder: Path, name: str, *command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m COMMAND`, with its output in a log; stopped at the end of the block."""
    log = folder / f"{name}.log"
    environment: Mapping[str, str] = os.environ | {"C_FORCE_ROOT": "1", "PYTHONPATH": str(ROOT)} | variables
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def celery_worker(folder: Path, app: str, *options: str, **variables: str) -> Iterator[None]:
    """A prefork worker of two processes."""
    name = app.rpartition(".")[2].replace(":", "-")
    command = ["celery", "-A", app, "worker", "-c", str(CONCURRENCY), "-l", "warning", "-n", name, *options]
    with python(folder, name, *command, **variables):
        yield
