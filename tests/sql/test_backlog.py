"""A backlog of hours before a slow worker: its messages wait, they are not lost, and none is sent twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.sql.actions import beat, republish
from tests.sql.protocol import QUEUE, Connection, Protocol, published, request

ROOTS = 64
"""Of a task: so few are published without asking for room, and the backlog grows between two dispatches."""

WINDOW, LIMIT = 64, 1000
"""The probe's, and that of a pass: what the coordinator asks for by default."""


class Broker:
    """A queue, first in, first out, with the publication time of each message; one step a message."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.waiting: deque[tuple[int, datetime]] = deque()

    def send(self, steps: list[int]) -> None:
        self.waiting.extend((step, self.protocol.now) for step in steps)

    def work(self, steps: int, *, free: int) -> None:
        """The worker receives so many messages and runs their steps; its beat tells of it."""
        received = [self.waiting.popleft() for _ in range(min(steps, len(self.waiting)))]
        self.protocol.complete(*(step for step, _ in received))
        newest = max(at for _, at in received)
        beat(self.protocol, self.protocol.worker, free=free, received={QUEUE: newest})


@pytest.fixture(params=[31 * ROOTS, pytest.param(1563 * ROOTS, marks=pytest.mark.slow)])
def backlog(request: pytest.FixtureRequest, connection: Connection) -> Iterator[Broker]:
    """So many steps, published over some minutes, each call committed as in life."""
    protocol = Protocol(connection)
    broker = Broker(protocol)
    pause = 140 * ROOTS / request.param
    for steps in submitted(protocol, request.param):
        broker.send(steps)
        protocol.pass_time(pause)
    assert len(broker.waiting) == request.param
    yield broker
    counts = "select count(*) from tasker.steps where republished > 1 or attempt > 1"
    assert connection.execute(counts).fetchone() == (0,)
    assert connection.execute("select * from tasker.invariant_violations()").fetchall() == []


def submitted(protocol: Protocol, steps: int) -> Iterator[list[int]]:
    """Tasks of many roots, so that there are so many steps; those of each submit."""
    protocol.register(", ".join(f"s{number}" for number in range(ROOTS)))
    for _ in range(steps // ROOTS):
        yield published(protocol.submit_all([request()]))


def test_a_slow_worker_is_sent_nothing_twice_however_long_its_backlog_waits(backlog: Broker) -> None:
    for round_number in range(40):
        backlog.protocol.pass_time(60)
        backlog.work(20, free=round_number % 2)
        assert republish(backlog.protocol)["moved"] == 0


def test_after_a_flush_the_backlog_moves_again_window_by_window_each_step_once(backlog: Broker) -> None:
    lost = [step for step, _ in backlog.waiting]
    backlog.waiting.clear()
    beat(backlog.protocol, backlog.protocol.worker, free=1)
    backlog.protocol.pass_time(6)
    windows = []
    while sum(windows) < len(lost):
        reply = republish(backlog.protocol)
        sent = sorted(published(reply))
        assert sent == lost[sum(windows) :][: len(sent)], "the oldest first, none twice, none left out"
        windows.append(len(sent))
        backlog.send(sent)
        backlog.work(len(sent), free=1)
        backlog.protocol.pass_time(1)
    passes, rest = divmod(len(lost) - WINDOW, LIMIT)
    assert windows == [WINDOW, *[LIMIT] * passes, *([rest] if rest else [])]
