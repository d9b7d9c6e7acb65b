"""finish_transaction: a handler's writes and its step's completion, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.actions import cancel
from tests.sql.beside import Beside
from tests.sql.protocol import Connection, Protocol, Won, keep, refused

Finish = Callable[[Won], Any]


@pytest.fixture
def own(connect: Callable[[], Connection]) -> Iterator[Connection]:
    """The handler's connection; nothing of it is committed unless a test does so."""
    own = connect()
    own.execute("create table public.effects (step bigint)")
    own.execute("begin")
    yield own
    own.rollback()


@pytest.fixture
def protocol(open_session: Callable[[], Protocol]) -> Protocol:
    """Everybody else, whose transactions commit."""
    return open_session()


@pytest.fixture
def finish(own: Connection) -> Finish:
    """What a worker does: the handler's write, then the completion."""
    transaction = own.execute("select pg_current_xact_id()::text").fetchall()[0][0]

    def finish(won: Won) -> Any:
        own.execute("insert into public.effects values (%s)", [won.only.step_id])
        (outcome,) = won.complete({"n": 1})
        query = "select tasker.finish_transaction(%s, %s, false)"
        return own.execute(query, [json.dumps(outcome, default=str), transaction]).fetchall()[0][0]

    return finish


def effects(protocol: Protocol) -> list[int]:
    return [row["step"] for row in protocol.rows("select step from public.effects")]


def first_of(protocol: Protocol, notation: str = "a > b") -> tuple[UUID, Won]:
    protocol.register(notation, transactional=True)
    task = protocol.submit()
    return task, protocol.claim(protocol.steps(task)["a"])


def test_the_writes_and_the_completion_commit_together(
    protocol: Protocol, own: Connection, finish: Finish
) -> None:
    task, won = first_of(protocol)
    reply = finish(won)
    assert protocol.states(task)["a"] == "in_progress"
    assert effects(protocol) == []
    own.commit()
    assert protocol.states(task) == {"a": "complete", "b": "enqueued"}
    assert effects(protocol) == won.ids
    (group,) = reply["publish"]
    assert group[2:] == [1, [protocol.steps(task)["b"]]]
    assert reply["kept"] == []
    assert protocol.attempts(won.only.step_id)[0]["result"] == {"n": 1}


def test_a_rollback_takes_both_back(protocol: Protocol, own: Connection, finish: Finish) -> None:
    task, won = first_of(protocol)
    finish(won)
    own.rollback()
    assert protocol.states(task) == {"a": "in_progress", "b": "pending"}
    assert effects(protocol) == []
    assert protocol.counters(task) == ("in_progress", 2, 1, 0)


def test_a_handler_that_ended_its_transaction_is_refused(
    protocol: Protocol, own: Connection, finish: Finish
) -> None:
    _, won = first_of(protocol)
    own.commit()
    own.execute("begin")
    with refused(own, "TK006"):
        finish(won)


@pytest.mark.parametrize("how", ["cancelled", "released", "finished"])
def test_an_attempt_that_has_ended_is_refused(
    protocol: Protocol, own: Connection, finish: Finish, how: str
) -> None:
    task, won = first_of(protocol)
    if how == "cancelled":
        cancel(protocol, task)
    elif how == "released":
        protocol.release(won)
    else:
        protocol.finish(won.complete())
    with pytest.raises(psycopg.Error) as error:
        finish(won)
    assert error.value.sqlstate == "TK007"
    own.rollback()
    assert effects(protocol) == []


def test_an_attempt_that_is_cancelled_while_it_finishes_is_refused(
    open_session: Callable[[], Protocol],
    protocol: Protocol,
    own: Connection,
    finish: Finish,
    beside: Beside,
) -> None:
    operator = open_session()
    task, won = first_of(protocol)
    with operator.connection.transaction():
        cancel(operator, task)
        finishing = beside.start_blocked(Protocol(own), operator, lambda: finish(won))
    with pytest.raises(psycopg.Error) as error:
        finishing.result()
    assert error.value.sqlstate == "TK007"


def test_a_cancel_waits_for_a_transaction_that_finishes_and_comes_too_late_for_its_step(
    open_session: Callable[[], Protocol],
    protocol: Protocol,
    own: Connection,
    finish: Finish,
    beside: Beside,
) -> None:
    operator = open_session()
    task, won = first_of(protocol)
    finish(won)
    cancelling = beside.start_blocked(operator, Protocol(own), lambda: cancel(operator, task))
    own.commit()
    cancelling.result()
    assert protocol.states(task) == {"a": "complete", "b": "cancelled"}
    assert effects(protocol) == won.ids


@pytest.mark.parametrize("commits", [True, False])
def test_a_release_under_the_claim_tells_whether_an_unanswered_commit_took_place(
    open_session: Callable[[], Protocol],
    protocol: Protocol,
    own: Connection,
    finish: Finish,
    beside: Beside,
    *,
    commits: bool,
) -> None:
    worker = open_session()
    task, won = first_of(protocol)
    finish(won)
    releasing = beside.start_blocked(worker, Protocol(own), lambda: worker.release(won))
    if commits:
        own.commit()
    else:
        own.rollback()
    given_back = releasing.result()["publish"]
    assert bool(given_back) is not commits
    assert protocol.states(task)["a"] == ("complete" if commits else "enqueued")
    assert effects(protocol) == (won.ids if commits else [])


def test_another_isolation_level_is_refused(protocol: Protocol, own: Connection) -> None:
    _, won = first_of(protocol)
    own.rollback()
    own.execute("begin isolation level repeatable read")
    (outcome,) = won.complete()
    query = "select tasker.finish_transaction(%s, pg_current_xact_id()::text, false)"
    with refused(own, "TK002"):
        own.execute(query, [json.dumps(outcome, default=str)])


def test_transactional_steps_travel_alone_and_are_never_kept(protocol: Protocol) -> None:
    protocol.register("a > b, c", transactional=True)
    protocol.expect(work=0.1)
    task = protocol.submit()
    steps = protocol.steps(task)
    won = protocol.claim(steps["a"])
    assert won.only.row["transactional"] is True
    done = protocol.finish(won.complete(), keep=keep())
    assert done.ids == []
    assert [group[2:] for group in done.reply["publish"]] == [[1, [steps["b"], steps["c"]]]]
