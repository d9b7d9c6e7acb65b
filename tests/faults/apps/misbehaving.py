"""Handlers that do what handlers must not: the context says how."""

from __future__ import annotations

import ctypes
import decimal
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasker import PermanentError, Retry, RetryableError, StepContext, TaskTemplate, around_step

LEDGER = Path(os.environ["TASKER_TEST_FOLDER"], "ledger")
MEGABYTE = 1 << 20

template = TaskTemplate("misbehaving/step", version="1.0.0")
limited = TaskTemplate("misbehaving/limited", version="1.0.0")


class Unsayable(Exception):
    def __str__(self) -> str:
        raise ValueError("nothing can be said of it")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())


def raising(error: BaseException) -> Any:
    raise error


def recurse() -> Any:
    return recurse() and None


def exhaust() -> Any:
    """As a process under a memory limit would: the rest of it lives on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, hard))
    try:
        return len(bytearray(4 << 30))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fork_away() -> str:
    """A process of its own that outlives the step."""
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return "forked"


def close_output() -> str:
    sys.stdout.close()
    return "closed"


def leak() -> str:
    for _ in range(50):
        threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
        os.open(os.devnull, os.O_RDONLY)
    return "leaked"


def circular() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> Any:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


def swallow() -> Any:
    """Hang, whatever is raised here to end it."""
    while True:
        with suppress(BaseException):
            time.sleep(60)


def hold_the_interpreter() -> Any:
    """Years in C code, during which no other thread of the process runs."""
    return re.fullmatch("(a+)+", "a" * 64 + "b")


def gate() -> str:
    """Wait until somebody opens."""
    while not (LEDGER.parent / "open").exists():
        time.sleep(0.01)
    return "through"


HOW: dict[str, Callable[[], Any]] = {
    "return": lambda: "fine",
    "hang": lambda: time.sleep(600),
    "swallow": swallow,
    "hold_the_interpreter": hold_the_interpreter,
    "gate": gate,
    "segfault": lambda: ctypes.string_at(0),
    "os_exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sys_exit": lambda: sys.exit(3),
    "keyboard_interrupt": lambda: raising(KeyboardInterrupt()),
    "generator_exit": lambda: raising(GeneratorExit()),
    "base_exception": lambda: raising(BaseException("of the worst kind")),
    "recursion": recurse,
    "memory": exhaust,
    "fork": fork_away,
    "close_output": close_output,
    "leak": leak,
    "ignore_sigterm": lambda: str(signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "set": lambda: {1, 2},
    "bytes": lambda: b"bytes",
    "object": object,
    "lambda": lambda: lambda: None,
    "generator": lambda: (i for i in range(3)),
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "huge_int": lambda: 10**5000,
    "huge_decimal": lambda: decimal.Decimal("1e5000"),
    "nul": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "nul_key": lambda: {"a\0b": 1},
    "number_key": lambda: {1: 1},
    "circular": circular,
    "deep": deep,
    "many_keys": lambda: {str(i): i for i in range(10**5)},
    "100_megabytes": lambda: "x" * (100 * MEGABYTE),
    "at_the_limit": lambda: "x" * (MEGABYTE - 2),
    "beyond_the_limit": lambda: "x" * (MEGABYTE - 1),
    "unsayable": lambda: raising(Unsayable()),
    "unpicklable": lambda: raising(Unpicklable()),
    "huge_error": lambda: raising(ValueError("x" * (10 * MEGABYTE))),
    "nul_error": lambda: raising(ValueError("a\0b \ud800")),
    "permanent": lambda: raising(PermanentError("never again")),
    "retry_never": lambda: raising(RetryableError("next year", retry_after=365 * 86400)),
}


@around_step
def noted(step: StepContext) -> Generator[None, None, None]:
    """One line in the ledger for each beginning."""
    if "how" not in step.context:
        yield
        return
    with LEDGER.open("ab", buffering=0) as ledger:
        ledger.write(f"{step.idempotency_key}\n".encode())
    yield


@template.step
def before() -> str:
    return "before"


@template.step(retry=Retry(max_attempts=3, backoff="none"))
def misbehave(before: str, step: StepContext) -> Any:
    """Do what the context asks for, or fail as often as it says."""
    if step.context["how"] == "flap":
        if step.attempt <= step.context["failures"]:
            raise RetryableError("flaps", retry_after=0.1)
        return step.attempt
    return HOW[step.context["how"]]()


@limited.step(max_attempts=1, timeout_seconds=1)
def overrun(step: StepContext) -> Any:
    return HOW[step.context["how"]]()


@template.step(depends_on=["misbehave"])
def after() -> str:
    return "after"
