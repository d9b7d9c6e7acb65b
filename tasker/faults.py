"""Kill points: places where a test can end, stop, break or delay a process; nothing unless armed.

`TASKER_FAULTS=after_claim_steps:kill:3` kills the process at the third pass of that point, counted over a
worker's main process and all its children. Several are separated by commas. The action is `kill` (SIGKILL),
`stop` (SIGSTOP), `exit`, `raise`, or `delay=SECONDS`; the pass is the first when left out, and `3+` means the
third and all later ones.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from tasker.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "TASKER_FAULTS"
EXIT_CODE = 70

_FAULT = re.compile(
    r"(?P<point>[a-z_]+):(?P<action>kill|stop|exit|raise|delay=(?P<seconds>[0-9.]+))"
    r"(:(?P<nth>[1-9][0-9]*)(?P<onwards>\+)?)?"
)
_armed: dict[str, list[_Fault]] = {}
_log = logging.getLogger(__name__)


class FaultRaised(Exception):
    """What the action `raise` raises."""


def point(when: str, what: str) -> None:
    """The point `{when}_{what}`, such as `after_claim_steps`. Costs a look at an empty dictionary."""
    if _armed:
        for fault in _armed.get(f"{when}_{what}", ()):
            fault.pass_by()


def arm(is_test_database: Callable[[], bool]) -> None:
    """Arm what TASKER_FAULTS names; nothing without it, and nothing again in a process that did.

    Raises SettingsError when it cannot be read, or when the database is not marked as one of tests
    (`comment on schema tasker is 'test database'`): no fault is ever injected into a database that matters.
    """
    text = os.environ.get(VARIABLE)
    if not text or _armed:
        return
    faults = list(_read(text))
    if not is_test_database():
        raise SettingsError(
            f"{VARIABLE} is set, and this database is not marked as a test's; unset {VARIABLE}: it makes "
            "processes die on purpose"
        )
    for name, fault in faults:
        _armed.setdefault(name, []).append(fault)
    _log.warning("faults are armed: %s", text)


class _Fault:
    """What happens at one point, and how often it was passed: by this process and those forked from it."""

    def __init__(self, name: str, action: str, seconds: float, nth: int, *, onwards: bool) -> None:
        from multiprocessing import Value

        self._name = name
        self._action = action
        self._seconds = seconds
        self._nth = nth
        self._onwards = onwards
        self._passes = Value(ctypes.c_long)  # in memory shared across forks

    def pass_by(self) -> None:
        with self._passes.get_lock():
            self._passes.value += 1
            passes = self._passes.value
        if passes == self._nth or (self._onwards and passes > self._nth):
            _log.warning("fault: %s at %s, pass %d", self._action, self._name, passes)
            self._act()

    def _act(self) -> None:
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self._action == "exit":
            os._exit(EXIT_CODE)
        elif self._action == "raise":
            raise FaultRaised("raised on purpose")
        else:
            time.sleep(self._seconds)


def _read(text: str) -> Iterator[tuple[str, _Fault]]:
    for part in text.split(","):
        found = _FAULT.fullmatch(part.strip())
        if found is None:
            raise SettingsError(
                f"{VARIABLE}: {part!r} is not POINT:ACTION or POINT:ACTION:PASS; the actions are kill, "
                "stop, exit, raise, delay=SECONDS"
            )
        action = found["action"].partition("=")[0]
        seconds, nth = float(found["seconds"] or 0), int(found["nth"] or 1)
        yield found["point"], _Fault(found["point"], action, seconds, nth, onwards=bool(found["onwards"]))
