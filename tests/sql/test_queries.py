from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.db import queries
from tasker.domain.errors import StepNotFound, TaskNotFound, TemplateNotFound, ValueRefused
from tasker.domain.records import Page, TaskFilter, TaskRecord
from tasker.domain.templates import TemplateDefinition
from tasker.domain.version import Reference, parse_reference
from tests.sql.actions import resolve, stop
from tests.sql.protocol import HANDLER, QUEUE, START, Connection, Protocol, definition

NOBODY = UUID(int=0)


def listed(protocol: Protocol, **filters: Any) -> list[UUID]:
    """The ids that list_tasks gives for a filter."""
    return [task.id for task in queries.list_tasks(protocol.connection, TaskFilter(**filters)).items]


def pages(connection: Connection, limit: int) -> list[Page[TaskRecord]]:
    """All pages of list_tasks."""
    found = [queries.list_tasks(connection, limit=limit)]
    while found[-1].next_cursor is not None:
        found.append(queries.list_tasks(connection, limit=limit, cursor=found[-1].next_cursor))
    return found


def test_a_task_is_read_with_its_template_and_times(protocol: Protocol) -> None:
    protocol.register("a", version="1.2.0")
    task = protocol.submit(context={"x": 1}, tags=["red"], initiator="ann", idempotency_key="key")
    protocol.pass_time(3)
    protocol.complete(protocol.steps(task)["a"])
    found = queries.get_task(protocol.connection, task)
    assert (found.template, found.version, found.state) == ("tests/graph", "1.2.0", "complete")
    assert (found.context, found.tags, found.initiator) == ({"x": 1}, ["red"], "ann")
    assert (found.created_at, found.started_at) == (START, START)
    assert found.finished_at == START + timedelta(seconds=3)
    assert (found.idempotency_key, found.correlation_id) == ("key", task)


def test_a_task_that_starts_later_has_started_once_it_has(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit(run_after_ms=60_000)
    assert queries.get_task(protocol.connection, task).started_at is None
    protocol.pass_time(60)
    protocol.due()
    assert queries.get_task(protocol.connection, task).started_at == START + timedelta(seconds=60)


def test_a_task_that_does_not_exist_is_not_found_and_neither_are_its_parts(session: Connection) -> None:
    for read in (queries.get_task, queries.list_steps, queries.task_graph):
        with pytest.raises(TaskNotFound, match=f"no task {NOBODY}"):
            read(session, NOBODY)
    with pytest.raises(TaskNotFound):
        queries.get_step(session, NOBODY, "a")


def test_tasks_are_listed_newest_first(protocol: Protocol) -> None:
    protocol.register("a")
    tasks = []
    for _ in range(3):
        tasks.append(protocol.submit())
        protocol.pass_time(1)
    assert listed(protocol) == tasks[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_give_every_task_once_though_many_were_created_at_the_same_time(
    protocol: Protocol, limit: int
) -> None:
    protocol.register("a")
    tasks = sorted((protocol.submit() for _ in range(6)), reverse=True)
    found = pages(protocol.connection, limit)
    assert [task.id for page in found for task in page.items] == tasks
    assert all(len(page.items) == limit for page in found[:-1])


def test_new_tasks_do_not_shift_the_pages_that_follow(protocol: Protocol) -> None:
    protocol.register("a")
    older = [protocol.submit()]
    protocol.pass_time(1)
    newer = protocol.submit()
    first = queries.list_tasks(protocol.connection, limit=1)
    protocol.pass_time(1)
    protocol.submit()
    second = queries.list_tasks(protocol.connection, limit=1, cursor=first.next_cursor)
    assert [task.id for task in first.items + second.items] == [newer, *older]
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "MjAzMA", "'; drop table tasker.tasks; --"])
def test_a_made_up_cursor_is_refused(session: Connection, cursor: str) -> None:
    with pytest.raises(ValueRefused, match="is not the cursor of a list"):
        queries.list_tasks(session, cursor=cursor)


def test_tasks_are_filtered_by_each_field(protocol: Protocol) -> None:
    protocol.register("a", name="one")
    protocol.register("a", name="two")
    protocol.register("a", name="two", version="2.0.0")
    one = protocol.submit("one", tags=["red", "blue"])
    protocol.fail(protocol.steps(one)["a"], permanent=True)
    protocol.pass_time(5)
    two = protocol.submit("two", version="1.0.0", tags=["red"])
    newest = protocol.submit("two")
    assert listed(protocol, state="error") == [one]
    assert set(listed(protocol, state="in_progress")) == {two, newest}
    assert listed(protocol, state="complete") == []
    assert listed(protocol, template=parse_reference("tests/one")) == [one]
    assert set(listed(protocol, template=parse_reference("tests/two"))) == {two, newest}
    assert listed(protocol, template=parse_reference("tests/two@1.0.0")) == [two]
    assert len(listed(protocol, namespace="tests")) == 3
    assert listed(protocol, namespace="other") == []
    assert set(listed(protocol, tag="red")) == {one, two}
    assert listed(protocol, tag="red", template=parse_reference("tests/one"), state="error") == [one]
    assert set(listed(protocol, since=START + timedelta(seconds=5))) == {two, newest}
    assert listed(protocol, namespace="tests", template=parse_reference("other/one")) == []


def test_what_a_filter_holds_is_data(protocol: Protocol) -> None:
    protocol.register("a")
    protocol.submit()
    for text in ("' or true --", "%s", "%(limit)s", "x); drop table tasker.tasks"):
        assert listed(protocol, state=text) == listed(protocol, tag=text) == []
        assert listed(protocol, template=Reference(text, text, text)) == []


def test_a_page_of_a_long_history_reads_a_page_of_it(connection: Connection) -> None:
    protocol = Protocol(connection)
    protocol.register("a")
    connection.execute(
        """
        insert into tasker.tasks (
            id, template_id, namespace, name, state, priority, context, correlation_id, request_digest,
            created_at, steps_total, steps_open, steps_active, steps_failed)
        select gen_random_uuid(), t.id, t.namespace, t.name, 'complete', 0, '{}', gen_random_uuid(), '',
            tasker.clock() - n * interval '1 second', 1, 0, 0, 0
        from tasker.templates t, generate_series(1, 20000) n
        """
    )
    failed = protocol.submit()
    protocol.fail(protocol.steps(failed)["a"], permanent=True)
    middle = queries.list_tasks(connection, TaskFilter(since=START - timedelta(seconds=9000)), limit=9000)
    reads: list[dict[str, Any]] = [
        {},
        {"cursor": middle.next_cursor},
        {"which": TaskFilter(state="error")},
    ]
    for read in reads:
        with connection.transaction():
            before = rows_read(connection)
            assert queries.list_tasks(connection, **read).items
            assert rows_read(connection) - before < 500, read


def rows_read(connection: Connection, table: str = "tasks") -> int:
    """How many rows of a table the transaction has read so far."""
    row = connection.execute(
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = %s", [table]
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_steps_are_listed_in_order_with_their_last_attempt(protocol: Protocol) -> None:
    protocol.register("b > a; c", steps={"c": {"timeout_seconds": 7.5}})
    task = protocol.submit()
    steps = protocol.steps(task)
    protocol.complete(steps["b"], result={"n": 1})
    protocol.fail(steps["c"], type="ValueError", message="no")
    b, a, c = queries.list_steps(protocol.connection, task)
    assert [(step.name, step.state, step.attempt) for step in (b, a, c)] == [
        ("b", "complete", 1),
        ("a", "enqueued", 0),
        ("c", "waiting_for_retry", 1),
    ]
    assert (b.id, b.task_id, b.handler, b.queue) == (steps["b"], task, HANDLER, QUEUE)
    assert (a.error, a.started_at, b.error, b.finished_at) == (None, None, None, START)
    assert c.error == {"type": "ValueError", "message": "no"}
    assert (c.failures, c.max_attempts, c.timeout_ms) == (1, 3, 7500)
    assert c.run_after == START + timedelta(seconds=1)
    assert queries.get_step(protocol.connection, task, "c") == c


def test_steps_are_listed_page_by_page_and_no_page_reads_those_of_others(protocol: Protocol) -> None:
    names = [f"s{number}" for number in range(2000)]
    protocol.register(", ".join(names))
    task = protocol.submit()
    protocol.connection.execute("analyze tasker.steps, tasker.template_steps")
    found: list[str] = []
    cursor = None
    for _ in range(3):
        before = rows_read(protocol.connection, "steps")
        page = queries.step_page(protocol.connection, task, limit=100, cursor=cursor)
        assert rows_read(protocol.connection, "steps") - before == 101
        cursor = page.next_cursor
        found += [step.name for step in page.items]
    assert found == names[:300]
    last = queries.step_page(protocol.connection, task, limit=1000, cursor="1899")
    assert ([step.name for step in last.items], last.next_cursor) == (names[1900:], None)
    for wrong in ("x", "-1", "9" * 30):
        with pytest.raises(ValueRefused, match="is not the cursor of a list"):
            queries.step_page(protocol.connection, task, limit=1, cursor=wrong)


def test_a_step_that_does_not_exist_is_not_found_and_the_nearest_is_named(protocol: Protocol) -> None:
    protocol.register("validate > charge")
    with pytest.raises(StepNotFound, match='has no step "chrage"; did you mean "charge"'):
        queries.get_step(protocol.connection, protocol.submit(), "chrage")


def test_the_attempts_of_a_step_say_who_made_them_and_how_they_ended(protocol: Protocol) -> None:
    protocol.register("a")
    step = protocol.steps(protocol.submit())["a"]
    protocol.fail(step, message="no")
    protocol.pass_time(1)
    protocol.due()
    protocol.claim(step)
    first, second = queries.list_attempts(protocol.connection, step)
    assert (first.attempt, first.outcome, first.error) == (
        1,
        "retry",
        {"type": "ValueError", "message": "no"},
    )
    assert (first.host, first.pid, first.worker_id) == ("host", 1, protocol.worker)
    assert (second.attempt, second.outcome, second.finished_at) == (2, None, None)
    assert second.claimed_at == START + timedelta(seconds=1)


def test_results_are_those_of_complete_steps(protocol: Protocol) -> None:
    protocol.register("a, b, c, d > e")
    task = protocol.submit()
    steps = protocol.steps(task)
    protocol.complete(steps["a"], result={"n": 1})
    protocol.complete(steps["b"], result=None)
    resolve(protocol, steps["c"])
    protocol.fail(steps["d"])
    assert queries.list_results(protocol.connection, task) == {"a": {"n": 1}, "b": None}
    assert queries.list_results(protocol.connection, task, ["a", "c"]) == {"a": {"n": 1}}


def test_the_graph_of_a_task_is_that_of_its_template(protocol: Protocol) -> None:
    wanted = definition("a > b, c > d; e > d")
    protocol.store(wanted)
    task = protocol.submit()
    assert queries.task_graph(protocol.connection, task) == wanted.parents
    assert list(queries.task_graph(protocol.connection, task)) == list(wanted.parents)


def test_templates_are_listed_by_name_and_newest_first(protocol: Protocol) -> None:
    for name, version in (("b", "1.0.0"), ("a", "1.9.0"), ("a", "1.10.0"), ("a", "0.1.0")):
        protocol.register("s", name=name, version=version)
    protocol.connection.execute("update tasker.templates set retired_at = now() where version = '0.1.0'")
    found = queries.list_templates(protocol.connection)
    versions = [(template.full_name, template.version) for template in found]
    assert versions == [("tests/a", "1.10.0"), ("tests/a", "1.9.0"), ("tests/b", "1.0.0")]
    assert len(queries.list_templates(protocol.connection, retired=True)) == 4
    assert len(queries.list_templates(protocol.connection, namespace="tests", name="b")) == 1
    assert queries.list_templates(protocol.connection, namespace="other") == []


def test_a_template_is_found_by_version_or_as_the_newest_active_one(protocol: Protocol) -> None:
    old = definition("a > b", version="1.0.0")
    protocol.store(old)
    protocol.register("a", version="2.0.0")
    protocol.register("a", version="3.0.0")
    protocol.connection.execute("update tasker.templates set retired_at = now() where version = '3.0.0'")
    connection = protocol.connection
    assert queries.get_template(connection, parse_reference("tests/graph")).version == "2.0.0"
    found = queries.get_template(connection, parse_reference("tests/graph@1.0.0"))
    assert TemplateDefinition.from_json(found.definition) == old
    assert found.steps_total == 2
    assert queries.get_template(connection, parse_reference("tests/graph@3.0.0")).retired_at is not None


@pytest.mark.parametrize(
    ("asked", "near"), [("tests/grahp", "tests/graph"), ("tests/graph@1.0.1", "tests/graph@1.0.0")]
)
def test_a_template_that_does_not_exist_is_not_found_and_the_nearest_is_named(
    protocol: Protocol, asked: str, near: str
) -> None:
    protocol.register("a")
    with pytest.raises(TemplateNotFound, match=f'no template {asked}; did you mean "{near}"'):
        queries.get_template(protocol.connection, parse_reference(asked))


def test_workers_are_listed_while_they_live(protocol: Protocol) -> None:
    main = protocol.worker
    child = protocol.register_worker(parent=main, kind="child", queues=(), handlers=())
    first, second = queries.list_workers(protocol.connection)
    assert (first.id, first.parent_id, first.kind) == (child, main, "child")
    assert (second.queues, second.handlers, second.stopped_at) == ([QUEUE], [HANDLER], None)
    stop(protocol, main)
    assert queries.list_workers(protocol.connection) == []
    gone = queries.list_workers(protocol.connection, stopped=True)
    assert [(worker.id, worker.stopped_because) for worker in gone] == [(child, "silent"), (main, "silent")]
