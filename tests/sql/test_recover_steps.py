"""recover_steps, and stop_workers before it: the steps of dead workers go to others, and poison ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.actions import beat, cancel, recover, resolve, stop
from tests.sql.beside import Beside
from tests.sql.protocol import START, Protocol, Reply, keep, published


def lose(session: Protocol, *steps: int) -> None:
    """A worker of its own claims the steps together and dies; they are taken back."""
    worker = session.register_worker()
    assert session.claim(*steps, worker=worker).ids == sorted(steps)
    stop(session, worker)
    assert recover(session)["moved"] == len(steps)


def test_a_crash_under_a_shared_claim_counts_no_loss_and_its_steps_travel_alone(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.claim(a, b)
    stop(protocol, protocol.worker)
    reply = recover(protocol)
    assert reply["publish"] == [["celery", None, 1, [a, b]]]
    for step in (protocol.step(a), protocol.step(b)):
        assert (step["state"], step["losses"], step["failures"], step["alone"]) == ("enqueued", 0, 0, True)
    assert [attempt["outcome"] for attempt in protocol.attempts(a)] == ["lost"]
    assert protocol.log_of(a) == ["enqueued", "in_progress", "enqueued"]


def test_losses_count_while_alone_and_the_third_is_an_error_that_settles_the_task(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    for losses in (0, 1, 2):
        lose(protocol, a)
        assert (protocol.step(a)["state"], protocol.step(a)["losses"]) == ("enqueued", losses)
    lose(protocol, a)
    assert (protocol.step(a)["state"], protocol.step(a)["losses"]) == ("error", 3)
    assert protocol.states(task)["b"] == "pending"
    assert protocol.counters(task) == ("error", 2, 0, 1)
    reasons = protocol.rows(
        "select reason from tasker.transitions where step_id = %s and to_state = 'error'", [a]
    )
    assert reasons == [{"reason": "worker_lost"}]


def test_what_a_worker_leaves_that_was_told_to_stop_is_nobodys_fault(protocol: Protocol) -> None:
    protocol.register("shared, alone")
    shared, alone = protocol.steps(protocol.submit()).values()
    lose(protocol, alone)
    lose(protocol, alone)
    assert (protocol.step(alone)["losses"], protocol.step(alone)["alone"]) == (1, True)
    for _ in range(3):
        main = protocol.register_worker()
        child = protocol.register_worker(parent=main, kind="child")
        protocol.claim(shared, alone, worker=child)
        protocol.call("stop_workers", [main], None, "shutdown")
        assert recover(protocol, max_losses=2)["moved"] == 2
    assert (protocol.step(alone)["state"], protocol.step(alone)["losses"]) == ("enqueued", 1)
    assert (protocol.step(shared)["losses"], protocol.step(shared)["alone"]) == (0, False)
    assert [attempt["outcome"] for attempt in protocol.attempts(shared)] == ["lost"] * 3


def test_a_loss_is_no_failure_and_the_attempts_go_on_counting(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    lose(protocol, a)
    won = protocol.claim(a)
    assert (won.only.row["attempt"], won.only.row["failures"]) == (2, 0)


def vanish(session: Protocol, worker: int) -> Reply:
    """The worker's main misses the process of this child."""
    session.call("stop_workers", [worker], None, "process_gone")
    return recover(session)


@pytest.mark.parametrize(
    ("seconds", "failures"), [(9.9, 0), (10, 1)], ids=["before its time was over", "after it"]
)
def test_a_step_whose_process_vanished_failed_if_its_time_was_over(
    protocol: Protocol, seconds: float, failures: int
) -> None:
    protocol.register("a", timeout_seconds=10)
    a = protocol.steps(protocol.submit())["a"]
    child = protocol.register_worker(parent=protocol.worker, kind="child")
    protocol.claim(a, worker=child)
    protocol.pass_time(seconds)
    assert vanish(protocol, child)["moved"] == 1
    step, (attempt,) = protocol.step(a), protocol.attempts(a)
    assert (step["failures"], step["losses"], step["alone"]) == (failures, 0, not failures)
    assert (step["state"], attempt["outcome"], (attempt["error"] or {}).get("type")) == (
        ("waiting_for_retry", "retry", "tasker.StepTimeout") if failures else ("enqueued", "lost", None)
    )


def test_of_a_shared_claim_no_step_is_charged_with_the_time(protocol: Protocol) -> None:
    protocol.register("a, b", timeout_seconds=10)
    a, b = protocol.steps(protocol.submit()).values()
    child = protocol.register_worker(parent=protocol.worker, kind="child")
    protocol.claim(a, b, worker=child)
    protocol.pass_time(60)
    assert published(vanish(protocol, child)) == [a, b]
    assert protocol.step(a)["failures"] == protocol.step(b)["failures"] == 0


def test_the_time_until_a_silent_worker_is_taken_for_dead_is_not_its_steps(protocol: Protocol) -> None:
    protocol.register("a", timeout_seconds=10)
    a = protocol.steps(protocol.submit())["a"]
    protocol.claim(a)
    protocol.pass_time(60)
    stop(protocol, protocol.worker)
    assert published(recover(protocol)) == [a]
    assert protocol.step(a)["failures"] == 0


def test_a_poison_step_does_not_stop_its_neighbours(protocol: Protocol) -> None:
    protocol.register("a, b > c")
    task = protocol.submit()
    a, b, _ = protocol.steps(task).values()
    lose(protocol, a, b)
    for _ in range(3):
        lose(protocol, a)
    protocol.complete(b)
    assert protocol.states(task) == {"a": "error", "b": "complete", "c": "pending"}
    assert protocol.counters(task) == ("error", 2, 0, 1)


def test_a_neighbour_that_an_older_message_brings_together_with_a_poison_step_is_not_charged(
    protocol: Protocol,
) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    for _ in range(4):  # the broker has doubled the message that both once shared
        lose(protocol, a, b)
    assert [protocol.step(step)["losses"] for step in (a, b)] == [0, 0]
    lose(protocol, a)
    assert [protocol.step(step)["losses"] for step in (a, b)] == [1, 0]


def test_a_kept_step_is_recovered_too_and_is_never_kept_again(protocol: Protocol) -> None:
    protocol.register("a > b")
    protocol.expect(work=1)
    a, b = protocol.steps(protocol.submit()).values()
    kept = protocol.finish(protocol.claim(a).complete(), keep=keep())
    assert kept.ids == [b]
    stop(protocol, protocol.worker)
    assert recover(protocol)["publish"] == [["celery", 1.0, 1, [b]]]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_stopped_worker_may_record_what_it_did_but_keeps_nothing(
    protocol: Protocol, *, keeps: bool
) -> None:
    protocol.register("a > b")
    protocol.expect(work=1)
    a, b = protocol.steps(protocol.submit()).values()
    won = protocol.claim(a)
    stop(protocol, protocol.worker)
    if keeps:
        with protocol.refused("TK001"):
            protocol.finish(won.complete(), keep=keep())
        assert protocol.step(a)["state"] == "in_progress"
    reply = protocol.finish(won.complete())
    assert (reply.published, reply.reply["refused"]) == ([b], [])
    assert recover(protocol)["moved"] == 0


def test_a_finish_that_comes_after_the_recovery_is_refused_and_kept_as_late(protocol: Protocol) -> None:
    protocol.register("a > b")
    task = protocol.submit()
    a = protocol.steps(task)["a"]
    won = protocol.claim(a)
    stop(protocol, protocol.worker)
    recover(protocol)
    reply = protocol.finish(won.complete({"paid": 1})).reply
    assert (reply["refused"], reply["publish"]) == ([a], [])
    assert protocol.states(task) == {"a": "enqueued", "b": "pending"}
    (attempt,) = protocol.attempts(a)
    assert (attempt["outcome"], attempt["result"]) == ("lost", None)
    assert attempt["late"] == {"kind": "complete", "result": {"paid": 1}, "error": None}


def test_a_late_finish_does_not_touch_the_attempt_that_came_after(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    dead, alive = protocol.register_worker(), protocol.register_worker()
    late = protocol.claim(a, worker=dead)
    stop(protocol, dead)
    recover(protocol)
    won = protocol.claim(a, worker=alive)
    assert protocol.finish(late.complete("late"), worker=dead).reply["refused"] == [a]
    assert protocol.step(a)["state"] == "in_progress"
    assert protocol.finish(won.complete("right"), worker=alive).reply["refused"] == []
    assert [attempt["result"] for attempt in protocol.attempts(a)] == [None, "right"]


def test_a_finish_that_holds_the_locks_is_not_undone_by_the_recovery_that_waits(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit()
    won = worker.claim(worker.steps(task)["a"])
    stop(coordinator, worker.worker)
    with worker.connection.transaction():
        assert worker.finish(won.complete()).reply["refused"] == []
        recovery = beside.start_blocked(coordinator, worker, lambda: recover(coordinator))
    reply = recovery.result()
    assert (reply["moved"], reply["publish"]) == (0, [])
    assert worker.states(task) == {"a": "complete", "b": "enqueued"}


def test_a_finish_that_waits_for_the_recovery_is_refused(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a > b")
    task = worker.submit()
    a = worker.steps(task)["a"]
    won = worker.claim(a)
    stop(coordinator, worker.worker)
    with coordinator.connection.transaction():
        assert published(recover(coordinator)) == [a]
        finish = beside.start_blocked(worker, coordinator, lambda: worker.finish(won.complete()))
    assert finish.result().reply["refused"] == [a]
    assert worker.states(task) == {"a": "enqueued", "b": "pending"}


def test_two_coordinators_recover_a_step_once(open_session: Callable[[], Protocol], beside: Beside) -> None:
    first, second = open_session(), open_session()
    first.register("a")
    a = first.steps(first.submit())["a"]
    first.claim(a)
    stop(first, first.worker)
    with first.connection.transaction():
        assert recover(first)["moved"] == 1
        repeat = beside.start_blocked(second, first, lambda: recover(second))
    assert repeat.result()["moved"] == 0
    assert first.log_of(a) == ["enqueued", "in_progress", "enqueued"]


def test_a_worker_that_beat_since_it_was_seen_is_alive(protocol: Protocol) -> None:
    protocol.register("a")
    won = protocol.claim(protocol.steps(protocol.submit())["a"])
    assert protocol.rows("select * from tasker.live_workers()") == [{"id": protocol.worker, "beats": 0}]
    assert beat(protocol, protocol.worker)
    assert stop(protocol, protocol.worker, beats=[0]) == []
    assert recover(protocol)["moved"] == 0
    assert stop(protocol, protocol.worker, beats=[1]) == [protocol.worker]
    assert stop(protocol, protocol.worker, beats=[1]) == []
    assert not beat(protocol, protocol.worker)
    assert recover(protocol)["publish"][0][3] == won.ids


def test_each_of_several_workers_is_compared_with_its_own_beats(protocol: Protocol) -> None:
    silent, alive = protocol.register_worker(), protocol.register_worker()
    beat(protocol, alive)
    assert stop(protocol, alive, silent, beats=[0, 0]) == [silent]


def test_the_children_of_a_stopped_main_lose_their_steps(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    a, b, c = protocol.steps(protocol.submit()).values()
    main, other = protocol.register_worker(), protocol.register_worker()
    children = [protocol.register_worker(parent=main, kind="child") for _ in range(2)]
    unharmed = protocol.register_worker(parent=other, kind="child")
    protocol.claim(a, worker=children[0])
    protocol.claim(b, worker=children[1])
    protocol.claim(c, worker=unharmed)
    assert stop(protocol, main) == [main, *children]
    assert published(recover(protocol)) == [a, b]
    with protocol.refused("TK001"):
        protocol.claim(a, worker=children[0])
    assert protocol.step(c)["state"] == "in_progress"


def test_a_vanished_child_loses_its_steps_and_its_siblings_do_not(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    main = protocol.register_worker()
    vanished, sibling = [protocol.register_worker(parent=main, kind="child") for _ in range(2)]
    protocol.claim(a, worker=vanished)
    protocol.claim(b, worker=sibling)
    assert stop(protocol, vanished) == [vanished]
    assert published(recover(protocol)) == [a]
    assert protocol.claim(a, worker=sibling).ids == [a]


def test_a_claim_that_slips_past_the_stop_of_its_worker_is_found_by_the_next_pass(
    open_session: Callable[[], Protocol],
) -> None:
    worker, coordinator = open_session(), open_session()
    worker.register("a, b")
    a, b = worker.steps(worker.submit()).values()
    worker.claim(a)
    with worker.connection.transaction():
        worker.claim(b)
        stop(coordinator, worker.worker)
        assert published(recover(coordinator)) == [a]
    assert published(recover(coordinator)) == [b]
    assert recover(coordinator)["moved"] == 0


def test_the_claim_of_a_child_that_registered_while_its_main_was_stopped_is_found(
    open_session: Callable[[], Protocol],
) -> None:
    child, coordinator = open_session(), open_session()
    child.register("a")
    a = child.steps(child.submit())["a"]
    main = coordinator.register_worker()
    with coordinator.connection.transaction():
        stop(coordinator, main)
        orphan = child.register_worker(parent=main, kind="child")
        assert child.claim(a, worker=orphan).ids == [a]
    assert published(recover(coordinator)) == [a]
    with child.refused("TK001"):
        child.claim(a, worker=orphan)


def test_a_repeat_recovers_nothing_and_a_repeated_claim_of_the_dead_is_refused(
    protocol: Protocol,
) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    won = protocol.claim(a)
    stop(protocol, protocol.worker)
    recover(protocol)
    again = recover(protocol)
    assert (again["moved"], again["publish"]) == (0, [])
    with protocol.refused("TK001"):
        protocol.claim(a, claim_id=won.claim_id)
    assert protocol.log_of(a) == ["enqueued", "in_progress", "enqueued"]


def test_a_pass_takes_no_more_claims_than_its_limit(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    for step in protocol.steps(protocol.submit()).values():
        protocol.claim(step)
    stop(protocol, protocol.worker)
    assert [recover(protocol, limit=2)["moved"] for _ in range(3)] == [2, 1, 0]


def test_a_pass_takes_a_shared_claim_whole_and_charges_none_of_its_steps(protocol: Protocol) -> None:
    protocol.register("a, b, c")
    steps = protocol.steps(protocol.submit()).values()
    protocol.connection.execute("update tasker.steps set alone = true")
    protocol.claim(*steps)
    stop(protocol, protocol.worker)
    assert recover(protocol, limit=2, max_losses=1)["moved"] == len(steps)
    assert {protocol.step(step)["losses"] for step in steps} == {0}


def test_a_lost_step_of_a_paused_queue_is_held(protocol: Protocol) -> None:
    protocol.register("a")
    a = protocol.steps(protocol.submit())["a"]
    protocol.claim(a)
    protocol.pause_queue()
    stop(protocol, protocol.worker)
    assert recover(protocol)["publish"] == []
    assert (protocol.step(a)["state"], protocol.step(a)["ready_at"]) == ("ready", START)
    protocol.resume_queue()
    assert protocol.dispatch()["publish"] == [["celery", None, 1, [a]]]


def test_what_an_operator_ended_is_not_brought_back(protocol: Protocol) -> None:
    protocol.register("a, b")
    resolved, cancelled = protocol.submit(), protocol.submit()
    a, b = protocol.steps(resolved).values()
    protocol.claim(a, b, *protocol.steps(cancelled).values())
    resolve(protocol, a)
    cancel(protocol, cancelled)
    stop(protocol, protocol.worker)
    assert published(recover(protocol)) == [b]
    assert protocol.states(resolved) == {"a": "resolved_manually", "b": "enqueued"}
    assert set(protocol.states(cancelled).values()) == {"cancelled"}


def test_the_moves_of_a_recovery_are_told_with_their_reason(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    protocol.claim(*protocol.steps(task).values())
    stop(protocol, protocol.worker)
    (move,) = recover(protocol, moves=True)["moves"]
    assert {key: move[key] for key in ("step", "from", "to", "attempt", "actor", "reason")} == {
        "step": "a",
        "from": "in_progress",
        "to": "enqueued",
        "attempt": 1,
        "actor": None,
        "reason": "worker_lost",
    }
