"""`submit(connection=…)`: the task is part of the caller's transaction, whatever becomes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tasker import (
    IdempotencyConflict,
    Task,
    Tasker,
    TaskNotFound,
    TaskTemplate,
    TemplateConflict,
    ValueRefused,
)
from tasker.broker import EXIT_SECONDS
from tasker.db import functions
from tasker.orchestration.templates import store_templates
from tasker.settings import Settings

QUEUE = "celery"

one = TaskTemplate("joined/one", version="1.0.0")
two = TaskTemplate("joined/two", version="1.0.0")


@one.step
@two.step(handler="joined/two.work")
def work() -> None:
    """No worker runs here; steps are published and that is all."""


class Changed:
    """`one`, edited under the version it had."""

    context_type = None
    definition = replace(one.definition, deadline_seconds=60)


class Undone(Exception):
    """Rolls a savepoint back."""


@dataclass
class Caller:
    """One way of holding a transaction, and what can become of it."""

    handle: Any
    commit: Callable[[], object]
    rollback: Callable[[], object]
    savepoint: Callable[[], AbstractContextManager[object]]


@pytest.fixture
def tasker(database_url: str, redis_url: str) -> Iterator[Tasker]:
    with closing(Tasker(Settings(database_url=database_url, broker_url=redis_url))) as tasker:
        store_templates(tasker.database, [one], QUEUE)
        yield tasker


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["session", "scoped_session", "sqlalchemy", "psycopg"])
def caller(request: pytest.FixtureRequest, engine: sa.Engine, database_url: str) -> Iterator[Caller]:
    if request.param == "psycopg":
        with psycopg.connect(database_url) as own:
            own.execute("select 1")  # so that `transaction` is a savepoint
            yield Caller(own, own.commit, own.rollback, own.transaction)
            own.rollback()
    elif request.param == "sqlalchemy":
        with engine.connect() as connection:
            yield Caller(connection, connection.commit, connection.rollback, connection.begin_nested)
    elif request.param == "scoped_session":
        scoped = scoped_session(sessionmaker(engine))
        yield Caller(scoped, scoped.commit, scoped.rollback, scoped.begin_nested)
        scoped.remove()
    else:
        with Session(engine) as session:
            yield Caller(session, session.commit, session.rollback, session.begin_nested)


def exists(task: Task) -> bool:
    try:
        return bool(task.refresh().state)
    except TaskNotFound:
        return False


def dispatch(tasker: Tasker) -> None:
    """One pass of the coordinator's loop, which runs at least every half second."""
    tasker.engine.run(functions.dispatch_steps, 1000)


def messages(tasker: Tasker, client: redis.Redis) -> int:
    """How many messages are out."""
    assert tasker.engine.publisher.flush(EXIT_SECONDS)
    return int(client.llen(QUEUE))


def test_no_limit_or_setting_of_ours_reaches_the_callers_session(tasker: Tasker, database_url: str) -> None:
    changed = "select name, setting from pg_settings where source = 'session' and name <> 'client_encoding'"
    with psycopg.connect(database_url) as caller:
        before = caller.execute(changed).fetchall()
        tasker.submit(one, connection=caller)
        assert caller.execute(changed).fetchall() == before
        assert caller.prepare_threshold == 5


def test_a_task_begins_to_exist_with_the_commit_and_is_published_once(
    tasker: Tasker, caller: Caller, redis_client: redis.Redis
) -> None:
    task = tasker.submit(one, connection=caller.handle)
    dispatch(tasker)
    assert not exists(task)
    assert messages(tasker, redis_client) == 0

    caller.commit()
    dispatch(tasker)
    dispatch(tasker)
    assert exists(task)
    assert task.state == "in_progress"
    assert messages(tasker, redis_client) == 1


def test_a_task_that_is_rolled_back_never_existed(
    tasker: Tasker, caller: Caller, redis_client: redis.Redis
) -> None:
    task = tasker.submit(one, connection=caller.handle)
    caller.rollback()
    dispatch(tasker)
    assert not exists(task)
    assert messages(tasker, redis_client) == 0


def test_a_savepoint_takes_its_own_task_back_and_no_other(
    tasker: Tasker, caller: Caller, redis_client: redis.Redis
) -> None:
    kept = tasker.submit(one, connection=caller.handle)
    with suppress(Undone), caller.savepoint():
        undone = tasker.submit(one, connection=caller.handle)
        raise Undone
    caller.commit()
    dispatch(tasker)
    assert (exists(kept), exists(undone)) == (True, False)
    assert messages(tasker, redis_client) == 1


def test_a_released_savepoint_starts_nothing_before_the_commit(
    tasker: Tasker, caller: Caller, redis_client: redis.Redis
) -> None:
    with caller.savepoint():
        task = tasker.submit(one, connection=caller.handle)
    dispatch(tasker)
    assert not exists(task)
    assert messages(tasker, redis_client) == 0
    caller.commit()
    dispatch(tasker)
    assert exists(task)
    assert messages(tasker, redis_client) == 1


def test_a_released_savepoint_goes_with_its_transaction(
    tasker: Tasker, caller: Caller, redis_client: redis.Redis
) -> None:
    with caller.savepoint():
        task = tasker.submit(one, connection=caller.handle)
    caller.rollback()
    dispatch(tasker)
    assert not exists(task)
    assert messages(tasker, redis_client) == 0


def test_many_tasks_join_together(tasker: Tasker, caller: Caller, redis_client: redis.Redis) -> None:
    tasks = tasker.submit_many([(one, None)] * 3, connection=caller.handle)
    assert [exists(task) for task in tasks] == [False] * 3
    caller.commit()
    assert [exists(task) for task in tasks] == [True] * 3


def test_a_refused_submit_leaves_the_transaction_usable(
    tasker: Tasker, caller: Caller, redis_client: redis.Redis
) -> None:
    tasker.submit(one, {"order": 1}, idempotency_key="k")
    task = tasker.submit(one, connection=caller.handle)
    with pytest.raises(IdempotencyConflict):
        tasker.submit(one, {"order": 2}, idempotency_key="k", connection=caller.handle)
    caller.commit()
    assert exists(task)


def test_a_template_the_database_lacks_is_stored_beside_the_transaction(
    tasker: Tasker, caller: Caller
) -> None:
    task = tasker.submit(two, connection=caller.handle)
    caller.rollback()
    assert not exists(task)
    assert exists(tasker.submit("joined/two"))


def test_a_changed_template_object_is_refused_with_what_differs(tasker: Tasker, caller: Caller) -> None:
    for connection in (None, caller.handle):
        with pytest.raises(
            TemplateConflict, match=r"  deadline_seconds: nothing -> 60.0\ngive it version 1.0.1"
        ):
            tasker.submit(Changed(), connection=connection)


def test_a_session_starts_its_tasks_by_itself_when_it_has_committed(
    tasker: Tasker, engine: sa.Engine, redis_client: redis.Redis
) -> None:
    with Session(engine) as session:
        tasker.submit(one, connection=session)
        with session.begin_nested():
            tasker.submit(one, connection=session)
        assert messages(tasker, redis_client) == 0
        session.commit()
        assert messages(tasker, redis_client) >= 1
        redis_client.delete(QUEUE)
        session.execute(sa.text("select 1"))
        session.commit()
        assert messages(tasker, redis_client) == 0


def test_a_scoped_session_starts_its_tasks_when_the_session_of_this_thread_has_committed(
    tasker: Tasker, engine: sa.Engine, redis_client: redis.Redis
) -> None:
    scoped = scoped_session(sessionmaker(engine))
    tasker.submit(one, connection=scoped)
    assert messages(tasker, redis_client) == 0
    scoped.commit()
    assert messages(tasker, redis_client) == 1
    scoped.remove()


@pytest.mark.parametrize(
    "mode", ["conditional_savepoint", "create_savepoint", "control_fully", "rollback_only"]
)
@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_session_inside_an_outer_transaction_starts_nothing_before_that_one_ends(
    tasker: Tasker, engine: sa.Engine, redis_client: redis.Redis, mode: Any, ending: str
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            task = tasker.submit(one, connection=session)
            session.commit()
        if mode == "control_fully":  # then the session's commit is the outer one's
            assert exists(task)
            return
        dispatch(tasker)
        assert not exists(task)
        assert messages(tasker, redis_client) == 0
        getattr(outer, ending)()
    dispatch(tasker)
    assert exists(task) is (ending == "commit")
    assert messages(tasker, redis_client) == (ending == "commit")


def test_publish_starts_what_a_committed_transaction_holds(
    tasker: Tasker, database_url: str, redis_client: redis.Redis
) -> None:
    with psycopg.connect(database_url) as connection:
        task = tasker.submit(one, connection=connection)
        task.publish()
        assert messages(tasker, redis_client) == 0
        connection.commit()
        task.publish()
        assert messages(tasker, redis_client) == 1


@pytest.mark.parametrize("by", ["publish", "session"])
def test_only_the_callers_own_tasks_are_started_not_what_others_wait_for(
    tasker: Tasker, database_url: str, engine: sa.Engine, redis_client: redis.Redis, by: str
) -> None:
    with psycopg.connect(database_url) as connection:
        others = tasker.submit_many([(one, None)] * 3, connection=connection)
    if by == "publish":
        with psycopg.connect(database_url) as connection:
            own = [tasker.submit(one, connection=connection)]
        own[0].publish()
    else:
        with Session(engine) as session:
            own = [tasker.submit(one, connection=session) for _ in range(2)]
            session.commit()
    assert [step.state for task in own for step in task.steps()] == ["enqueued"] * len(own)
    assert [step.state for task in others for step in task.steps()] == ["ready"] * 3
    assert messages(tasker, redis_client) == len(own)


def test_what_cannot_be_joined_is_refused_and_nothing_is_changed(
    tasker: Tasker, database_url: str, engine: sa.Engine
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        with pytest.raises(ValueRefused, match="autocommit"):
            tasker.submit(one, connection=connection)
        with connection.transaction():
            task = tasker.submit(one, connection=connection)
        assert exists(task)
    with pytest.raises(ValueRefused, match="str is no SQLAlchemy Session"):
        tasker.submit(one, connection="a name")
    with sa.create_engine("sqlite://").connect() as other, pytest.raises(ValueRefused, match="sqlite"):
        tasker.submit(one, connection=other)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_of_any_isolation_can_be_joined(tasker: Tasker, engine: sa.Engine, level: Any) -> None:
    with engine.connect().execution_options(isolation_level=level) as connection:
        task = tasker.submit(one, connection=connection)
        connection.commit()
    assert exists(task)
