"""freshen_steps: a late publisher sends what nobody else has sent meanwhile, under a new time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from tests.sql.actions import beat, cancel, republish
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, Reply, published


def freshen(session: Protocol, steps: Sequence[int], at: datetime) -> Reply:
    reply: Reply = session.call("freshen_steps", list(steps), at)
    return reply


def test_steps_not_yet_sent_get_the_time_at_which_they_are(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    steps = list(protocol.steps(protocol.submit()).values())
    protocol.pass_time(4)
    reply = freshen(protocol, steps[:2], START)
    assert reply["publish"] == [[QUEUE, None, None, steps[:2]]]
    assert (reply["moved"], datetime.fromisoformat(reply["at"])) == (2, protocol.now)
    assert [protocol.step(step)["enqueued_at"] for step in steps] == [protocol.now, protocol.now, START]
    assert {protocol.step(step)["republished"] for step in steps} == {0}


def test_a_repeat_and_whatever_was_published_claimed_or_closed_since_are_left_out(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    a, b, c = protocol.steps(protocol.submit()).values()
    gone = protocol.submit()
    closed = protocol.steps(gone)["a"]
    cancel(protocol, gone)
    protocol.claim(a)
    protocol.pass_time(6)
    beat(protocol, protocol.worker, received={QUEUE: protocol.now})
    assert published(republish(protocol, limit=1)) == [b]
    protocol.pass_time(1)
    assert published(freshen(protocol, [a, b, c, closed], START)) == [c]
    assert freshen(protocol, [a, b, c], START)["publish"] == []


def test_what_is_fresh_is_not_overtaken_by_what_was_sent_meanwhile(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.pass_time(8)
    assert published(freshen(protocol, [b], START)) == [b]
    beat(protocol, protocol.worker, received={QUEUE: protocol.now})
    assert published(republish(protocol)) == [a]


def test_beside_a_republish_each_step_is_sent_by_one_of_them(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    late, coordinator = open_session(), open_session()
    late.register("a, b")
    steps = sorted(late.steps(late.submit()).values())
    for session in (late, coordinator):
        session.pass_time(9)
    beat(coordinator, coordinator.worker, received={QUEUE: coordinator.now})
    with coordinator.connection.transaction():
        assert published(republish(coordinator, limit=1)) == steps[:1]
        assert published(freshen(late, steps, START)) == steps[1:], "it does not wait for what the other has"
    assert published(freshen(late, steps, START)) == []
