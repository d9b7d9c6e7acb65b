"""pause_queues and resume_queues: an operator holds queues, and lets them go on."""

from __future__ import annotations

from collections.abc import Callable

from tests.sql.actions import OPERATOR, REASON, beat, pause_queues, resume_queues
from tests.sql.beside import Beside
from tests.sql.protocol import QUEUE, START, Protocol, keep, published

SLOW = "slow"


def test_nothing_more_of_the_queue_starts_and_the_others_go_on(protocol: Protocol) -> None:
    protocol.register("out; runs > child; free", steps={"free": {"queue": SLOW}})
    protocol.expect(work=1)
    task = protocol.submit()
    out, runs, child, free = protocol.steps(task).values()
    won = protocol.claim(runs)
    assert (pause_queues(protocol, QUEUE)["moved"], protocol.claim(out, free).ids) == ([QUEUE], [free])
    kept = protocol.finish(won.complete(), keep=keep())
    assert (kept.ids, kept.published) == ([], [])
    later = protocol.submit()
    assert protocol.states(task) == {
        "out": "ready",
        "runs": "complete",
        "child": "ready",
        "free": "in_progress",
    }
    assert protocol.states(later)["out"] == "ready"
    assert protocol.dispatch()["moved"] == 0
    resume_queues(protocol, QUEUE)
    assert set(published(protocol.dispatch())) > {out, child}


def test_who_paused_it_since_when_and_why_is_kept_until_it_is_resumed(protocol: Protocol) -> None:
    protocol.register("a")
    pause_queues(protocol, QUEUE)
    columns = "select paused_at, paused_by, paused_because from tasker.queues"
    assert protocol.row(columns) == {"paused_at": START, "paused_by": OPERATOR, "paused_because": REASON}
    protocol.pass_time(1)
    protocol.call("pause_queues", [QUEUE], "ben", "another")
    assert protocol.row(columns) == {"paused_at": START, "paused_by": OPERATOR, "paused_because": REASON}
    resume_queues(protocol, QUEUE)
    assert protocol.row(columns) == {"paused_at": None, "paused_by": None, "paused_because": None}


def test_a_repeat_moves_nothing_and_refuses_nothing(protocol: Protocol) -> None:
    protocol.register("a")
    for call in (pause_queues, resume_queues):
        assert (call(protocol, QUEUE)["moved"], call(protocol, QUEUE)["moved"]) == ([QUEUE], [])
        assert call(protocol, QUEUE)["refused"] == []


def test_queues_nobody_knows_are_refused_and_the_others_are_moved(protocol: Protocol) -> None:
    protocol.register("a, b", steps={"b": {"queue": SLOW}})
    for call in (pause_queues, resume_queues):
        reply = call(protocol, "celeri", SLOW, QUEUE)
        assert (reply["moved"], reply["refused"]) == ([QUEUE, SLOW], ["celeri"])
    assert protocol.rows("select name from tasker.queues where name = 'celeri'") == []


def test_a_claim_under_way_wins_and_the_next_one_finds_the_queue_held(
    open_session: Callable[[], Protocol],
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a, b")
    task = worker.submit()
    a, b = worker.steps(task).values()
    with worker.connection.transaction():
        won = worker.claim(a)
        assert pause_queues(operator, QUEUE)["moved"] == [QUEUE]
    assert won.ids == [a]
    assert worker.claim(b).ids == []


def test_what_a_claim_under_way_holds_is_found_after_the_resume(
    open_session: Callable[[], Protocol],
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    a = worker.steps(worker.submit())["a"]
    pause_queues(operator, QUEUE)
    with worker.connection.transaction():
        assert worker.claim(a).ids == []
        resume_queues(operator, QUEUE)
        assert operator.dispatch()["moved"] == 0
    assert published(operator.dispatch()) == [a]


def test_what_a_submit_under_way_holds_is_found_after_the_resume(
    open_session: Callable[[], Protocol],
) -> None:
    application, operator = open_session(), open_session()
    application.register("a")
    pause_queues(operator, QUEUE)
    with application.connection.transaction():
        task = application.submit()
        resume_queues(operator, QUEUE)
    assert application.states(task) == {"a": "ready"}
    assert published(operator.dispatch()) == [application.steps(task)["a"]]


def test_a_pause_that_waits_for_a_heartbeat_does_not_forget_what_it_heard(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    worker, operator = open_session(), open_session()
    worker.register("a")
    own = worker.worker
    with worker.connection.transaction():
        beat(worker, own, received={QUEUE: START})
        paused = beside.start_blocked(operator, worker, lambda: pause_queues(operator, QUEUE))
    assert paused.result()["moved"] == [QUEUE]
    row = worker.row("select received_at, paused_at from tasker.queues")
    assert row == {"received_at": START, "paused_at": START}


def test_pauses_of_the_same_queues_in_different_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    ann, ben = open_session(), open_session()
    ann.register("a, b", steps={"b": {"queue": SLOW}})
    with ann.connection.transaction():
        pause_queues(ann, QUEUE, SLOW)
        waiting = beside.start_blocked(ben, ann, lambda: resume_queues(ben, SLOW, QUEUE))
    assert waiting.result()["moved"] == [QUEUE, SLOW]
