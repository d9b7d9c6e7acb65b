"""cut_by_room and crowded_queues: what a call that starts many steps publishes, and what waits for room."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from tests.sql.actions import resolve, retry, skip
from tests.sql.protocol import HANDLER, QUEUE, START, Protocol, published, request

SLOW = "slow"


def many(prefix: str, count: int) -> str:
    """So many names."""
    return ", ".join(f"{prefix}{number}" for number in range(count))


def standing(protocol: Protocol, task: UUID) -> tuple[int, int]:
    """How many steps of a task are published, and how many wait for room."""
    states = list(protocol.states(task).values())
    return states.count("enqueued"), states.count("ready")


@pytest.fixture
def ten_ms(protocol: Protocol) -> Protocol:
    """Each step takes 10 ms, so that a call publishes 100 of them for the one slot there is."""
    protocol.expect(**{HANDLER: 10})
    assert protocol.worker
    return protocol


def test_a_submit_publishes_its_first_roots_and_the_others_wait_for_room(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 120))
    task = ten_ms.submit()
    steps = list(ten_ms.steps(task).values())
    assert standing(ten_ms, task) == (100, 20)
    assert [ten_ms.step(step)["state"] for step in steps[99:101]] == ["enqueued", "ready"]
    waiting = ten_ms.step(steps[100])
    assert (waiting["ready_at"], waiting["enqueued_at"]) == (START, None)
    assert ten_ms.counters(task) == ("in_progress", 120, 120, 0)


def test_a_submit_without_room_closes_the_gate_and_later_ones_wait_behind_it(ten_ms: Protocol) -> None:
    ten_ms.register(f"{many('s', 120)}, other", steps={"other": {"queue": SLOW}})
    ten_ms.submit()
    gates = ten_ms.rows("select name, gate_open from tasker.queues order by name")
    assert gates == [{"name": QUEUE, "gate_open": False}, {"name": SLOW, "gate_open": True}]
    ten_ms.register("a", name="single")
    assert ten_ms.states(ten_ms.submit("single")) == {"a": "ready"}


def test_a_submit_does_not_wait_for_a_queue_that_somebody_holds(open_session: Callable[[], Protocol]) -> None:
    session, other = open_session(), open_session()
    session.expect(**{HANDLER: 10})
    session.register(many("s", 120))
    with other.connection.transaction():
        other.connection.execute("select from tasker.queues for update")
        task = session.submit()
    assert standing(session, task) == (100, 20)
    assert session.dispatch()["closed"] == 1


def test_a_repeated_submit_publishes_what_the_first_one_did(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 120))
    asked = request()
    assert published(ten_ms.submit_all([asked])) == published(ten_ms.submit_all([asked]))


def test_many_tasks_of_one_call_are_published_in_order_while_there_is_room(ten_ms: Protocol) -> None:
    ten_ms.register("a > b")
    ten_ms.submit_all([request() for _ in range(130)])
    found = ten_ms.rows("select state from tasker.steps where parents_left = 0 order by id")
    assert [row["state"] for row in found] == ["enqueued"] * 100 + ["ready"] * 30


def test_what_is_published_before_takes_the_room(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 60))
    first, second = ten_ms.submit(), ten_ms.submit()
    assert standing(ten_ms, first) == standing(ten_ms, second) == (60, 0), "so few do not ask"
    ten_ms.register(many("s", 70), name="more")
    assert standing(ten_ms, ten_ms.submit("more")) == (0, 70)


def test_each_queue_has_its_own_room(ten_ms: Protocol) -> None:
    graph = f"{many('s', 120)}, {many('q', 70)}"
    ten_ms.register(graph, steps={f"q{number}": {"queue": SLOW} for number in range(70)})
    states = ten_ms.states(ten_ms.submit())
    assert [name for name, state in states.items() if state == "ready"] == [
        f"s{it}" for it in range(100, 120)
    ]


def test_as_much_as_there_is_room_for_is_all_published(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 100))
    assert standing(ten_ms, ten_ms.submit()) == (100, 0)


def test_more_slots_make_more_room(ten_ms: Protocol) -> None:
    ten_ms.register_worker(slots=1)
    ten_ms.register(many("s", 220))
    assert standing(ten_ms, ten_ms.submit()) == (200, 20)


def test_tasks_for_later_take_no_room_when_submitted_but_when_they_start(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 120))
    task = ten_ms.submit(run_after_ms=1000)
    assert set(ten_ms.states(task).values()) == {"waiting"}
    ten_ms.pass_time(1)
    assert len(published(ten_ms.due())) == 100
    assert standing(ten_ms, task) == (100, 20)


def test_a_fan_out_publishes_its_first_children_and_the_others_wait_for_room(ten_ms: Protocol) -> None:
    ten_ms.register(f"first > {many('s', 120)} > last")
    task = ten_ms.submit()
    done = ten_ms.complete(ten_ms.steps(task)["first"])
    assert len(done.published) == 100
    assert standing(ten_ms, task) == (100, 20)
    assert ten_ms.counters(task) == ("in_progress", 121, 120, 0)


@pytest.mark.parametrize(("children", "enqueued"), [(125, 125), (126, 5)])
def test_a_fan_out_of_less_than_half_a_slots_work_is_published_without_asking_for_room(
    ten_ms: Protocol, children: int, enqueued: int
) -> None:
    ten_ms.register(f"first > {many('s', children)}", handler="quick", steps={"first": {"handler": HANDLER}})
    ten_ms.expect(quick=2)
    task = ten_ms.submit()
    ten_ms.register(many("filling", 99), name="filling")
    ten_ms.submit("filling")
    done = ten_ms.complete(ten_ms.steps(task)["first"])
    assert len(done.published) == enqueued


@pytest.mark.parametrize("cure", [skip, resolve])
def test_a_fan_out_by_an_operator_is_bounded_too(ten_ms: Protocol, cure: Callable[..., object]) -> None:
    ten_ms.register(f"first > {many('s', 120)}")
    task = ten_ms.submit()
    cure(ten_ms, ten_ms.steps(task)["first"])
    assert standing(ten_ms, task) == (100, 20)


def test_children_that_cannot_run_yet_take_no_room(ten_ms: Protocol) -> None:
    ten_ms.register(f"first, other > {many('s', 120)}; first > {many('t', 70)}")
    task = ten_ms.submit()
    ten_ms.complete(ten_ms.steps(task)["first"])
    assert standing(ten_ms, task) == (71, 0)


def test_steps_retried_together_are_bounded_too(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 50))
    tasks = [ten_ms.submit() for _ in range(4)]
    for task in tasks:
        ten_ms.fail(*ten_ms.steps(task).values(), permanent=True)
    reply = retry(ten_ms, tasks=tasks)
    assert len(reply["moved"]) == 200
    assert [standing(ten_ms, task) for task in tasks] == [(50, 0), (50, 0), (0, 50), (0, 50)]


def test_what_waits_for_room_is_dispatched_as_room_is_made_in_half_as_much(ten_ms: Protocol) -> None:
    ten_ms.register(many("s", 120))
    task = ten_ms.submit()
    steps = list(ten_ms.steps(task).values())
    ten_ms.complete(*steps[:50])
    assert ten_ms.dispatch()["moved"] == 0
    ten_ms.complete(*steps[50:55])
    assert published(ten_ms.dispatch()) == steps[100:105]
    ten_ms.complete(*steps[55:105])
    assert published(ten_ms.dispatch()) == steps[105:]


@pytest.mark.parametrize("steps", [64, 65])
def test_up_to_64_steps_are_published_without_asking_for_room(protocol: Protocol, steps: int) -> None:
    protocol.expect(**{HANDLER: 400})
    protocol.register(f"first > {many('s', steps)}")
    protocol.register(many("s", steps), name="flat")
    task = protocol.submit()
    protocol.complete(protocol.steps(task)["first"])
    assert standing(protocol, task) == ((64, 0) if steps == 64 else (2, 63))
    protocol.connection.execute("update tasker.steps set queue = 'elsewhere'")
    assert standing(protocol, protocol.submit("flat")) == ((64, 0) if steps == 64 else (2, 63))
