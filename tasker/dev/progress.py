"""Live progress of several tasks on standard error: a moving table on a terminal, else a line per task."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tasker.cli.output import LOOKS, state_text
from tasker.domain.states import SATISFYING, TASK_SETTLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Standing(NamedTuple):
    """How far one task is: its state and those of its steps."""

    state: str
    steps: Sequence[str]

    @property
    def done(self) -> str:
        """`3 of 4 steps`."""
        return f"{sum(state in SATISFYING for state in self.steps)} of {len(self.steps)} steps"


class Progress(AbstractContextManager["Progress"]):
    """What is shown while tasks run; it disappears at the end from a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, standings: Mapping[str, Standing]) -> None:
        """Show these instead of the last ones."""
        if self._console.is_terminal:
            self._live.update(_table(standings), refresh=True)
            return
        for name, standing in standings.items():
            if standing.state in TASK_SETTLED and name not in self._told:
                self._told.add(name)
                self._console.print(f"{name}: {standing.done}, {standing.state}", soft_wrap=True)


def _table(standings: Mapping[str, Standing]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, standing in standings.items():
        signs = Text()
        for state in standing.steps:
            look = LOOKS[state]
            signs.append(look.sign, style=look.colour)
        table.add_row(name, signs, standing.done, Text.from_ansi(state_text(standing.state)))
    return table
