"""register_worker, assert_worker, beat_worker, stop_workers, live_workers, live_children."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.sql.actions import beat, stop
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol

UNKNOWN = 1_000_000


def stopped(protocol: Protocol) -> list[int]:
    """Ids of all stopped workers."""
    found = protocol.rows("select id from tasker.workers where stopped_at is not null order by id")
    return [row["id"] for row in found]


def test_a_worker_is_registered_with_what_it_serves(protocol: Protocol) -> None:
    worker = protocol.register_worker(queues=["b", "a"], handlers=["x", "y"])
    row = protocol.row("select * from tasker.workers where id = %s", [worker])
    assert (row["kind"], row["queues"], row["handlers"]) == ("main", ["b", "a"], ["x", "y"])
    assert (row["parent_id"], row["beats"], row["beat_at"], row["stopped_at"]) == (None, 0, START, None)
    assert protocol.call("assert_worker", worker) == ["x", "y"]
    names = protocol.rows("select name from tasker.queues order by name")
    assert [row["name"] for row in names] == ["a", "b"]


def test_a_child_runs_the_handlers_of_its_main(protocol: Protocol) -> None:
    main = protocol.register_worker(handlers=["x", "y"])
    child = protocol.register_worker(parent=main, kind="child", queues=[], handlers=[])
    assert protocol.call("assert_worker", child) == ["x", "y"]


@pytest.mark.parametrize("whom", ["unknown", "stopped", "child of a stopped main"])
def test_who_is_stopped_or_unknown_is_refused(protocol: Protocol, whom: str) -> None:
    main = protocol.register_worker()
    child = protocol.register_worker(parent=main, kind="child")
    assert stop(protocol, main) == [main, child]
    worker = {"unknown": UNKNOWN, "stopped": main, "child of a stopped main": child}[whom]
    with protocol.refused("TK001"):
        protocol.call("assert_worker", worker)
    with protocol.refused("TK001"):
        protocol.register_worker(parent=worker, kind="child")


def test_a_child_whose_main_alone_is_marked_stopped_is_refused(protocol: Protocol) -> None:
    main = protocol.register_worker()
    child = protocol.register_worker(parent=main, kind="child")
    protocol.connection.execute("update tasker.workers set stopped_at = now() where id = %s", [main])
    with protocol.refused("TK001"):
        protocol.call("assert_worker", child)


def test_a_stopped_child_does_not_stop_its_main_or_siblings(protocol: Protocol) -> None:
    main = protocol.register_worker()
    dead, alive = (protocol.register_worker(parent=main, kind="child") for _ in range(2))
    assert stop(protocol, dead) == [dead]
    assert protocol.call("assert_worker", main) == protocol.call("assert_worker", alive)
    with protocol.refused("TK001"):
        protocol.call("assert_worker", dead)


def test_a_beat_counts_and_tells_whether_the_worker_is_still_trusted(protocol: Protocol) -> None:
    worker = protocol.register_worker()
    protocol.pass_time(3)
    assert beat(protocol, worker, free=4) is True
    row = protocol.row("select * from tasker.workers where id = %s", [worker])
    assert (row["beats"], row["beat_at"], row["free"]) == (1, START + timedelta(seconds=3), 4)

    stop(protocol, worker)
    assert beat(protocol, worker, free=4) is False
    row = protocol.row("select * from tasker.workers where id = %s", [worker])
    assert (row["beats"], row["free"], row["stopped_because"]) == (1, 0, "silent")


def test_a_beat_notes_the_newest_message_received_from_each_queue(protocol: Protocol) -> None:
    worker = protocol.register_worker(queues=["a", "b", "c"])
    protocol.pass_time(10)
    older, newer = (START + timedelta(seconds=seconds) for seconds in (2, 5))
    beat(
        protocol,
        worker,
        received={"a": newer, "b": newer, "unknown": newer},
    )
    protocol.pass_time(1)
    beat(protocol, worker, received={"a": older})
    found = protocol.rows("select name, received_at, heard_at from tasker.queues order by name")
    assert [tuple(row.values()) for row in found] == [
        ("a", newer, START + timedelta(seconds=11)),
        ("b", newer, START + timedelta(seconds=10)),
        ("c", None, None),
    ]


def test_only_a_worker_that_has_not_beaten_since_is_stopped(protocol: Protocol) -> None:
    silent, alive = protocol.register_worker(), protocol.register_worker()
    child = protocol.register_worker(parent=silent, kind="child")
    beat(protocol, alive)
    assert stop(protocol, silent, alive, beats=[0, 0]) == [silent, child]
    assert stopped(protocol) == [silent, child]
    assert stop(protocol, alive, silent, beats=[1, 0]) == [alive]


def test_a_main_is_told_of_its_own_live_children_only(protocol: Protocol) -> None:
    main, other = protocol.register_worker(), protocol.register_worker()
    protocol.register_worker(parent=other, kind="child")
    dead, alive = (protocol.register_worker(parent=main, kind="child") for _ in range(2))
    stop(protocol, dead)
    pid = protocol.row("select pid from tasker.workers where id = %s", [alive])["pid"]
    assert protocol.rows("select * from tasker.live_children(%s)", [main]) == [{"id": alive, "pid": pid}]


def test_a_repeat_stops_nobody_twice(protocol: Protocol) -> None:
    worker = protocol.register_worker()
    assert stop(protocol, worker) == [worker]
    protocol.pass_time(5)
    assert stop(protocol, worker) == []
    row = protocol.row("select stopped_at from tasker.workers where id = %s", [worker])
    assert row["stopped_at"] == START


def test_a_beat_that_comes_while_the_worker_is_being_stopped_finds_itself_stopped(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    coordinator, main = open_session(), open_session()
    with coordinator.connection.transaction():
        assert stop(coordinator, main.worker, beats=[0]) == [main.worker]
        beating = beside.start_blocked(main, coordinator, lambda: beat(main, main.worker))
    assert beating.result() is False


def test_a_stop_that_waited_for_a_beat_leaves_the_worker_alone(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    coordinator, main = open_session(), open_session()
    worker = main.worker
    with main.connection.transaction():
        assert beat(main, worker) is True
        stopping = beside.start_blocked(coordinator, main, lambda: stop(coordinator, worker, beats=[0]))
    assert stopping.result() == []


def test_live_workers_are_the_mains_and_coordinators_not_stopped(protocol: Protocol) -> None:
    main, dead = protocol.register_worker(), protocol.register_worker()
    coordinator = protocol.register_worker(kind="coordinator", queues=[], handlers=[])
    protocol.register_worker(parent=main, kind="child")
    beat(protocol, main)
    stop(protocol, dead)
    found = protocol.rows("select * from tasker.live_workers() order by id")
    assert [tuple(row.values()) for row in found] == [(main, 1), (coordinator, 0)]


def test_workers_that_name_new_queues_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    holder, first, second = open_session(), open_session(), open_session()
    with holder.connection.transaction(force_rollback=True):
        holder.connection.execute("insert into tasker.queues (name) values ('m')")
        one = beside.start_blocked(first, holder, lambda: first.register_worker(queues=["z", "m", "a"]))
        two = beside.start(lambda: second.register_worker(queues=["a", "m", "z"]))
        beside.wait_until_blocked(second, two)
    assert one.result() != two.result()


def test_a_queue_is_served_while_a_live_main_has_it_and_the_handler(protocol: Protocol) -> None:
    main = protocol.register_worker(queues=[QUEUE, "b"], handlers=["x"])
    protocol.register_worker(kind="coordinator", queues=[], handlers=["y"])
    assert protocol.call("served", "b", "x") is True
    assert protocol.call("served", "c", "x") is False
    assert protocol.call("served", "b", "y") is False
    stop(protocol, main)
    assert protocol.call("served", "b", "x") is False
