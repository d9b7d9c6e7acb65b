"""Calls that meet, in every order: no wake-up is lost, nothing happens twice, nobody deadlocks.

To force an order a third session holds a row in the middle of what two calls want; once both wait, it
lets go. A call that took its locks in another order than the rest would then deadlock, every time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from uuid import UUID, uuid4

import pytest

from tests.sql.actions import cancel, recover, stop
from tests.sql.beside import Beside
from tests.sql.protocol import Protocol, Row, Won, keep


class Pair:
    """Two workers, each with one of the two parents of a step in progress, and somebody to hold rows."""

    def __init__(self, open_session: Callable[[], Protocol]) -> None:
        self.workers = [open_session(), open_session()]
        self.holder = open_session()
        self.holder.register("a, b > c")
        self.task = self.holder.submit()
        a, b, self.child = self.holder.steps(self.task).values()
        self.parents = [a, b]
        self.won = [worker.claim(parent) for worker, parent in zip(self.workers, self.parents, strict=True)]

    def finish(self, which: int, offer: Row | None) -> Won:
        """One worker finishes its parent."""
        return self.workers[which].finish(self.won[which].complete(), keep=offer)

    def check(self, first: Won, second: Won, offer: Row | None) -> None:
        """The child was opened once, by the second finish."""
        assert (first.ids, first.published) == ([], [])
        taken = second.ids if offer else second.published
        assert taken == [self.child]
        assert (second.published == []) == bool(offer)
        step = self.holder.step(self.child)
        assert (step["parents_left"], step["attempt"]) == (0, 1 if offer else 0)
        assert self.holder.log_of(self.child)[0] == "enqueued"
        assert self.holder.counters(self.task) == ("in_progress", 1, 1, 0)


OFFERS = pytest.mark.parametrize("offer", [None, keep()], ids=["publishing", "keeping"])
ORDERS = pytest.mark.parametrize("order", list(permutations((0, 1))), ids=["ab", "ba"])


# The two parents of one step


@OFFERS
@ORDERS
def test_parents_finished_one_after_the_other_open_their_child_once(
    open_session: Callable[[], Protocol], order: tuple[int, int], offer: Row | None
) -> None:
    pair = Pair(open_session)
    first, second = (pair.finish(which, offer) for which in order)
    pair.check(first, second, offer)


@OFFERS
@ORDERS
def test_a_parent_finished_while_the_others_finish_is_uncommitted_waits_and_opens_the_child(
    open_session: Callable[[], Protocol], beside: Beside, order: tuple[int, int], offer: Row | None
) -> None:
    pair = Pair(open_session)
    early, late = order
    with pair.workers[early].connection.transaction():
        first = pair.finish(early, offer)
        waiting = beside.start_blocked(
            pair.workers[late], pair.workers[early], lambda: pair.finish(late, offer)
        )
    pair.check(first, waiting.result(), offer)


@OFFERS
@ORDERS
def test_a_parent_whose_finish_is_rolled_back_does_not_open_the_child_for_the_one_that_waited(
    open_session: Callable[[], Protocol], beside: Beside, order: tuple[int, int], offer: Row | None
) -> None:
    pair = Pair(open_session)
    early, late = order
    with pair.workers[early].connection.transaction(force_rollback=True):
        pair.finish(early, offer)
        waiting = beside.start_blocked(
            pair.workers[late], pair.workers[early], lambda: pair.finish(late, offer)
        )
    first = waiting.result()
    assert pair.holder.step(pair.child)["parents_left"] == 1
    pair.check(first, pair.finish(early, offer), offer)


@OFFERS
@ORDERS
@pytest.mark.parametrize("held", ["task", "child", "first parent", "second parent"])
def test_parents_finished_together_behind_a_held_row_open_their_child_once(
    open_session: Callable[[], Protocol],
    beside: Beside,
    order: tuple[int, int],
    offer: Row | None,
    held: str,
) -> None:
    pair = Pair(open_session)
    early, late = order
    steps = {"child": pair.child, "first parent": pair.parents[early], "second parent": pair.parents[late]}
    table, row = ("tasks", pair.task) if held == "task" else ("steps", steps[held])
    with pair.holder.connection.transaction():
        pair.holder.rows(f"select 1 from tasker.{table} where id = %s for no key update", [row])
        if held == "second parent":
            one = beside.start(partial(pair.finish, early, offer))
            one.result(timeout=10)
        else:
            one = beside.start_blocked(pair.workers[early], pair.holder, partial(pair.finish, early, offer))
        two = beside.start(partial(pair.finish, late, offer))
        beside.wait_until_blocked(pair.workers[late], two)
    pair.check(one.result(), two.result(), offer)


def test_three_parents_finished_together_open_their_child_once(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    workers = [open_session() for _ in range(3)]
    holder = open_session()
    holder.register("a, b, c > d")
    task = holder.submit()
    *parents, child = holder.steps(task).values()
    won = [worker.claim(parent) for worker, parent in zip(workers, parents, strict=True)]
    finishing = []
    with holder.connection.transaction():
        holder.rows("select 1 from tasker.steps where id = %s for no key update", [child])
        for worker, of_worker in zip(workers, won, strict=True):
            call = beside.start(partial(worker.finish, of_worker.complete()))
            beside.wait_until_blocked(worker, call)
            finishing.append(call)
    assert sorted(call.result().published for call in finishing) == [[], [], [child]]
    assert holder.step(child)["parents_left"] == 0


@pytest.mark.parametrize("level", ["repeatable read", "serializable", "read uncommitted"])
def test_isolation_levels_under_which_wakeups_are_lost_are_refused(
    open_session: Callable[[], Protocol], level: str
) -> None:
    protocol = open_session()
    protocol.register("a > b")
    won = protocol.claim(*protocol.steps(protocol.submit()).values())
    calls: list[Callable[[], object]] = [
        partial(protocol.claim, *won.ids),
        partial(protocol.finish, won.complete()),
        partial(protocol.release, won),
        protocol.due,
        protocol.dispatch,
    ]
    for call in calls:
        with protocol.refused("TK002"):
            protocol.connection.execute(f"set transaction isolation level {level}")
            call()
    protocol.connection.execute(f"set default_transaction_isolation = '{level}'")
    for call in calls:
        with protocol.refused("TK002"):
            call()


# Rows wanted in opposite orders


class Crossing:
    """Three tasks whose first steps one worker has, and a third session to hold the one in the middle."""

    def __init__(self, open_session: Callable[[], Protocol], beside: Beside) -> None:
        self.beside = beside
        self.holder, self.first, self.second = (open_session() for _ in range(3))
        self.holder.register("a > b")
        ids = sorted(uuid4() for _ in range(3))
        for task in ids:
            self.holder.submit(id=str(task))
        self.tasks = ids
        self.steps = [self.holder.steps(task)["a"] for task in ids]
        self.won = self.first.claim(*self.steps)
        assert self.first.worker != self.second.worker

    def run(self, held: str, one: Callable[[], object], two: Callable[[], object]) -> None:
        """Start both calls against the held middle row and let them go; neither may fail."""
        row = self.tasks[1] if held == "tasks" else self.steps[1]
        with self.holder.connection.transaction():
            self.holder.rows(f"select 1 from tasker.{held} where id = %s for no key update", [row])
            calls = []
            for session, call in ((self.first, one), (self.second, two)):
                calls.append(self.beside.start(call))
                self.beside.wait_until_blocked(session, calls[-1])
        for running in calls:
            running.result(timeout=10)

    def states(self) -> list[dict[str, str]]:
        """The steps' states of each task."""
        return [self.holder.states(task) for task in self.tasks]


FINISHED = [{"a": "complete", "b": "enqueued"}] * 3
CANCELLED = [{"a": "cancelled", "b": "cancelled"}] * 3


@pytest.mark.parametrize("held", ["tasks", "steps"])
def test_finishes_of_the_same_tasks_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside, held: str
) -> None:
    crossing = Crossing(open_session, beside)
    outcomes = crossing.won.complete()
    crossing.run(
        held,
        lambda: crossing.first.finish(outcomes),
        lambda: crossing.second.finish(outcomes[::-1]),
    )
    assert crossing.states() == FINISHED


@pytest.mark.parametrize("first_mover", ["finish", "claim"])
def test_a_finish_and_a_claim_of_the_same_steps_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside, first_mover: str
) -> None:
    crossing = Crossing(open_session, beside)
    outcomes, steps = crossing.won.complete(), crossing.steps
    if first_mover == "finish":
        crossing.run(
            "steps",
            lambda: crossing.first.finish(outcomes),
            lambda: crossing.second.claim(*steps[::-1]),
        )
    else:
        crossing.run(
            "steps",
            lambda: crossing.first.claim(*steps[::-1]),
            lambda: crossing.second.finish(outcomes),
        )
    assert crossing.states() == FINISHED
    assert [crossing.holder.step(step)["attempt"] for step in steps] == [1, 1, 1]


def test_a_finish_whose_child_comes_before_its_parent_does_not_deadlock_with_a_claim_of_both(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    holder, first, second = (open_session() for _ in range(3))
    holder.register("child, middle, parent; parent > child")
    task = holder.submit()
    child, middle, parent = holder.steps(task).values()
    won, worker = first.claim(parent), second.worker
    with holder.connection.transaction():
        holder.rows("select 1 from tasker.steps where id = %s for no key update", [middle])
        claiming = beside.start_blocked(
            second, holder, lambda: second.claim(child, middle, parent, worker=worker)
        )
        finishing = beside.start_blocked(first, second, lambda: first.finish(won.complete()))
    assert (claiming.result().ids, finishing.result().published) == ([middle], [child])


@pytest.mark.parametrize("held", ["tasks", "steps"])
@pytest.mark.parametrize("first_mover", ["finish", "cancel"])
def test_a_finish_and_a_cancel_of_the_same_tasks_in_opposite_orders_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside, held: str, first_mover: str
) -> None:
    crossing = Crossing(open_session, beside)
    outcomes, tasks = crossing.won.complete(), crossing.tasks
    if first_mover == "finish":
        crossing.run(
            held,
            lambda: crossing.first.finish(outcomes),
            lambda: cancel(crossing.second, *tasks[::-1]),
        )
        assert crossing.states() == [{"a": "complete", "b": "cancelled"}] * 3
    else:
        crossing.run(
            held,
            lambda: cancel(crossing.first, *tasks[::-1]),
            lambda: crossing.second.finish(outcomes),
        )
        assert crossing.states() == CANCELLED
        late = [crossing.holder.attempts(step)[0]["late"] for step in crossing.steps]
        assert [outcome["kind"] for outcome in late] == ["complete"] * 3


@pytest.mark.parametrize("first_mover", ["release", "cancel"])
def test_a_release_and_a_cancel_of_the_same_steps_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside, first_mover: str
) -> None:
    crossing = Crossing(open_session, beside)
    steps, tasks = crossing.steps[::-1], crossing.tasks
    if first_mover == "release":
        crossing.run(
            "steps",
            lambda: crossing.first.release(crossing.won, *steps),
            lambda: cancel(crossing.second, *tasks),
        )
    else:
        crossing.run(
            "steps",
            lambda: cancel(crossing.first, *tasks),
            lambda: crossing.second.release(crossing.won, *steps),
        )
    assert crossing.states() == CANCELLED


@pytest.mark.parametrize("first_mover", ["finish", "recover"])
def test_a_finish_and_the_recovery_of_its_worker_do_not_deadlock(
    open_session: Callable[[], Protocol], beside: Beside, first_mover: str
) -> None:
    crossing = Crossing(open_session, beside)
    stop(crossing.holder, crossing.first.worker)
    outcomes = crossing.won.complete()[::-1]
    if first_mover == "finish":
        crossing.run("tasks", lambda: crossing.first.finish(outcomes), lambda: recover(crossing.second))
        assert crossing.states() == FINISHED
    else:
        crossing.run("tasks", lambda: recover(crossing.first), lambda: crossing.second.finish(outcomes))
        assert crossing.states() == [{"a": "enqueued", "b": "pending"}] * 3


def test_finishes_do_not_deadlock_with_inserts_that_reference_their_task(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    pair = Pair(open_session)
    for worker in pair.workers:
        worker.connection.execute("begin")
        # the lock that the foreign key of an inserted step takes
        worker.rows("select 1 from tasker.tasks where id = %s for key share", [pair.task])
    first = pair.finish(0, None)
    waiting = beside.start_blocked(pair.workers[1], pair.workers[0], lambda: pair.finish(1, None))
    pair.workers[0].connection.execute("commit")
    second = waiting.result(timeout=10)
    pair.workers[1].connection.execute("commit")
    pair.check(first, second, None)


def test_an_insert_that_references_the_task_keeps_no_finish_waiting(
    open_session: Callable[[], Protocol],
) -> None:
    writer, worker = open_session(), open_session()
    writer.register("a")
    task = writer.submit()
    won = worker.claim(writer.steps(task)["a"])
    with writer.connection.transaction(force_rollback=True):
        writer.connection.execute(
            "insert into tasker.steps (task_id, template_id, ordinal, name, queue, priority, state,"
            " parents_left, changed_at) select task_id, template_id, 9, 'z', queue, 0, 'pending', 1, now()"
            " from tasker.steps where task_id = %s",
            [task],
        )
        worker.finish(won.complete())
    assert writer.counters(task) == ("complete", 0, 0, 0)


# A crowd


def drain(worker: Protocol, tasks: list[UUID]) -> int:
    """Claim, finish and keep until nothing of `tasks` can be claimed; returns how many steps it ran."""
    ran = 0
    while True:
        found = worker.rows(
            "select id from tasker.steps where state = 'enqueued' and enqueued_at is not null"
            " and task_id = any(%s) limit 8",
            [tasks],
        )
        won = worker.claim(*(row["id"] for row in found))
        if not found:
            return ran
        while won.ids:
            ran += len(won.ids)
            won = worker.finish(won.complete(), keep=keep(most=2))


def test_workers_that_run_the_same_tasks_at_once_run_every_step_once(
    open_session: Callable[[], Protocol], beside: Beside
) -> None:
    workers = [open_session() for _ in range(4)]
    workers[0].register("a > b, c, d, e; b, c > f; d, e > g; f, g > h")
    workers[0].expect(work=1)
    tasks = [workers[0].submit() for _ in range(12)]
    ran = [beside.start(partial(drain, worker, tasks)) for worker in workers]
    for call in ran:
        call.result(timeout=30)
    drain(workers[0], tasks)
    assert {workers[0].counters(task) for task in tasks} == {("complete", 0, 0, 0)}
    attempts = workers[0].row("select count(*), max(attempt) from tasker.step_attempts")
    assert attempts == {"count": 12 * 8, "max": 1}
