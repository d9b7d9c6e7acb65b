"""What `why` says, for each thing a step can wait for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.errors import StepNotFound, TaskNotFound
from tasker.domain.packaged import packaged_folder
from tasker.orchestration.explain import SENTENCES, why
from tests.sql.actions import (
    OPERATOR,
    REASON,
    beat,
    cancel,
    expire_steps,
    expire_tasks,
    park,
    park_by_hand,
    pause,
    pause_queues,
    recover,
    resume,
    skip,
    stop,
)
from tests.sql.protocol import QUEUE, Protocol


@pytest.fixture
def run(protocol: Protocol) -> Callable[..., UUID]:
    """Submits a task of a graph, beside a live worker and a coordinator."""

    def submit(notation: str, *, run_after_ms: int | None = None, **fields: Any) -> UUID:
        assert protocol.worker
        protocol.register(notation, **fields)
        coordinate(protocol)
        return protocol.submit(run_after_ms=run_after_ms)

    return submit


Run = Callable[..., UUID]


def coordinate(protocol: Protocol) -> None:
    """Leave the trace of a coordinator's pass."""
    protocol.connection.execute("select tasker.take_turn('start_due', '1 s', null)")


def said(protocol: Protocol, task: UUID, step: str | None = None) -> list[str]:
    """The sentences of `why`."""
    return [str(reason) for reason in why(protocol.connection, task, step)]


def only(protocol: Protocol, task: UUID, step: str = "a") -> str:
    """The one sentence about a step."""
    (sentence,) = [str(reason) for reason in why(protocol.connection, task, step) if reason.step is not None]
    return sentence


def test_there_is_a_sentence_for_every_blocking_reason() -> None:
    text = (packaged_folder("sql") / "functions" / "step_readiness.sql").read_text()
    listed = re.findall(r"^--   ((?:\w+, )*\w+) ", text, re.MULTILINE)
    listed += re.findall(r"^--   (.+?)   in error", text, re.MULTILINE)
    assert {code for codes in listed for code in codes.split(", ")} == set(SENTENCES)


def test_nothing_is_said_of_a_task_without_unfinished_steps(protocol: Protocol, run: Run) -> None:
    task = run("a")
    protocol.complete(protocol.steps(task)["a"])
    assert said(protocol, task) == []
    assert said(protocol, task, "a") == []
    task = protocol.submit()
    cancel(protocol, task)
    assert said(protocol, task) == []


def test_a_running_step_says_where_and_since_when(protocol: Protocol, run: Run) -> None:
    task = run("a")
    protocol.claim(protocol.steps(task)["a"])
    protocol.pass_time(12)
    assert (
        only(protocol, task) == "a has been running for 12 s of at most 5 min (attempt 1) on host, process 1"
    )


def test_a_step_of_a_stopped_worker_says_who_takes_it_back(protocol: Protocol, run: Run) -> None:
    task = run("a")
    protocol.claim(protocol.steps(task)["a"])
    stop(protocol, protocol.worker)
    assert (
        only(protocol, task)
        == "a was running on host, process 1, which has stopped; a coordinator gives it to another"
    )


def test_a_failed_step_says_with_what_and_how_to_retry_it(protocol: Protocol, run: Run) -> None:
    task = run("a")
    protocol.fail(protocol.steps(task)["a"], permanent=True, type="shop.CardRefused", message="no\nfunds")
    protocol.pass_time(90)
    letter = protocol.row("select id, fingerprint from tasker.dead_letters")
    assert only(protocol, task) == (
        f"a failed (failure 1 of 3: CardRefused: no); repair the cause, then `tasker step retry {task}/a`; "
        f"dead letter {letter['id']}: permanent, 1 min 30 s ago, fingerprint {letter['fingerprint']}"
    )


def test_a_step_that_was_ended_for_its_time_says_so(protocol: Protocol, run: Run) -> None:
    task = run("a, b", steps={"b": {"start_within_seconds": 60}})
    a, _ = protocol.steps(task).values()
    protocol.connection.execute("update tasker.tasks set deadline_at = tasker.clock() + '90 s'")
    protocol.pass_time(60)
    expire_steps(protocol)
    protocol.pass_time(30)
    expire_tasks(protocol)
    assert protocol.step(a)["state"] == "error"
    ended, failed = said(protocol, task)
    assert ended.startswith(
        f"a was ended: the deadline of the task passed; `tasker task retry {task}` lets it go on without one;"
    )
    assert failed.startswith(
        "b failed: no worker began it in the time it may wait; are there enough of queue `celery`? then "
        f"`tasker step retry {task}/b`;"
    )


def test_a_parked_step_says_why_and_how_to_put_it_back(protocol: Protocol, run: Run) -> None:
    task = run("a, b")
    park_by_hand(protocol, protocol.steps(task)["a"])
    assert only(protocol, task).startswith(
        f"a was parked ({REASON}); `tasker step retry {task}/a` puts it back; dead letter "
    )


def test_a_long_message_is_cut(protocol: Protocol, run: Run) -> None:
    task = run("a")
    protocol.fail(protocol.steps(task)["a"], message="x" * 400)
    assert f": {'x' * 120}…)" in only(protocol, task)


def test_a_step_whose_workers_died_says_so(protocol: Protocol, run: Run) -> None:
    task = run("a")
    for _ in ("in company", "alone"):
        worker = protocol.register_worker()
        protocol.claim(protocol.steps(task)["a"], worker=worker)
        stop(protocol, worker)
        recover(protocol, max_losses=1)
    assert only(protocol, task).startswith("a failed: the workers that ran it died; look into their logs")


def test_a_step_nobody_claimed_says_how_often_it_was_sent(protocol: Protocol, run: Run) -> None:
    task = run("a")
    a = protocol.steps(task)["a"]
    protocol.connection.execute("update tasker.steps set republished = 5 where id = %s", [a])
    assert only(protocol, task) == (
        "a has been enqueued on queue `celery` for 0 s, its message sent again 5 times; live workers serve it"
    )
    park(protocol, a)
    assert only(protocol, task).startswith("a failed: its message was sent 6 times and no worker claimed it;")


def test_a_lost_wake_up_sends_to_the_doctor(protocol: Protocol, run: Run) -> None:
    task = run("a")
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute("update tasker.steps set state = 'ready', enqueued_at = null")
        assert (
            only(protocol, task)
            == "a could run, but nothing will start it, a defect; `tasker doctor` says more"
        )


def test_a_step_without_a_worker_for_its_queue_says_how_to_start_one(protocol: Protocol, run: Run) -> None:
    task = run("a", queue="reports")
    assert only(protocol, task) == (
        "a is enqueued on queue `reports`, but no live worker serves that queue; "
        "start one with `tasker -A MODULE worker --queues reports`"
    )


def test_a_step_without_a_worker_for_its_handler_names_it(protocol: Protocol, run: Run) -> None:
    task = run("a", handler="shop/x.y")
    assert only(protocol, task) == (
        "a may run on queue `celery`, but no live worker there has handler `shop/x.y`; "
        "start one whose module registers it"
    )


def test_a_step_that_was_given_back_says_when_it_is_offered_again(protocol: Protocol, run: Run) -> None:
    task = run("a", handler="rare")
    protocol.claim(protocol.steps(task)["a"])
    protocol.register_worker(handlers=["rare"])
    assert (
        only(protocol, task)
        == "a was given back by a worker that lacks handler `rare`; offered again due in 1 s"
    )


def test_a_retry_says_when_it_is_due_and_what_failed(protocol: Protocol, run: Run) -> None:
    task = run("a")
    protocol.fail(
        protocol.steps(task)["a"],
        retry_after_ms=12_000,
        type="tasker.domain.errors.RetryableError",
        message="gateway busy",
    )
    assert only(protocol, task) == (
        "a waits for a retry, due in 12 s (failure 1 of 3: RetryableError: gateway busy)"
    )
    protocol.pass_time(15)
    assert only(protocol, task) == "a waits for a retry, due 3 s ago; a coordinator starts it"


def test_a_task_for_later_says_when_it_starts(protocol: Protocol, run: Run) -> None:
    task = run("a", run_after_ms=200_000)
    assert only(protocol, task) == "a starts with its task, due in 3 min 20 s"


def test_a_timer_says_when_it_ends(protocol: Protocol, run: Run) -> None:
    task = run("a")
    with protocol.connection.transaction(force_rollback=True):
        protocol.connection.execute(
            "update tasker.steps set state = 'waiting', enqueued_at = null,"
            " run_after = tasker.clock() + interval '5 s'"
        )
        assert only(protocol, task) == "a waits for its time, due in 5 s"
        protocol.pass_time(6)
        assert only(protocol, task) == "a waits for its time, due 1 s ago; a coordinator starts it"


def test_a_held_step_says_by_what(protocol: Protocol, run: Run) -> None:
    run("a")
    protocol.pause_queue()
    task = protocol.submit()
    protocol.pass_time(75)
    assert only(protocol, task) == (
        "a is held: queue `celery` was paused 1 min 15 s ago; `tasker queue resume celery` lets it go on"
    )
    protocol.resume_queue()
    protocol.close_gate()
    assert only(protocol, task) == (
        "a waits its turn: queue `celery` has enough published, and 1 step waits for room, by priority, "
        "then age"
    )
    protocol.open_gate()
    assert only(protocol, task) == "a is held no longer; a coordinator enqueues it"
    protocol.pause_task(task)
    assert only(protocol, task) == "a is held: the task is paused"


def test_a_paused_task_and_queue_say_who_did_it_and_why(protocol: Protocol, run: Run) -> None:
    task = run("a > b")
    protocol.claim(protocol.steps(task)["a"])
    pause(protocol, task)
    protocol.pass_time(5)
    assert said(protocol, task)[0] == (
        f"the task was paused 5 s ago by {OPERATOR} ({REASON}); `tasker task resume {task}` lets it go on"
    )
    assert why(protocol.connection, task)[0].codes == ("task_paused",)
    resume(protocol, task)
    assert not any("paused" in sentence for sentence in said(protocol, task))
    pause_queues(protocol, QUEUE)
    other = protocol.submit()
    assert f"was paused 0 s ago by {OPERATOR} ({REASON}); " in only(protocol, other, "a")


def test_a_step_names_the_parents_it_waits_for(protocol: Protocol, run: Run) -> None:
    task = run("a, b, c, d, e > end")
    steps = protocol.steps(task)
    protocol.complete(steps["a"])
    assert only(protocol, task, "end") == (
        "end waits for its parents: b (enqueued), c (enqueued), d (enqueued) and 1 more"
    )
    skip(protocol, steps["c"], steps["d"], steps["e"])
    assert only(protocol, task, "end") == "end waits for its parents: b (enqueued)"
    protocol.fail(steps["b"], permanent=True)
    assert only(protocol, task, "end") == (
        "end waits for its parents: b (error); a failed one has to be repaired first"
    )


def test_what_to_act_on_comes_first(protocol: Protocol, run: Run) -> None:
    task = run("a > b; c; d; e", steps={"d": {"queue": "reports"}})
    steps = protocol.steps(task)
    protocol.fail(steps["c"])
    protocol.fail(steps["e"], permanent=True)
    order = [(reason.step, reason.codes[0]) for reason in why(protocol.connection, task)]
    assert order == [
        ("e", "failed"),
        ("d", "no_worker_for_queue"),
        ("a", "message_out"),
        ("c", "back_off"),
        ("b", "parents_open"),
    ]


def test_a_step_whose_workers_are_busy_says_what_with(protocol: Protocol, run: Run) -> None:
    running = run("nap, doze, b")
    steps = protocol.steps(running)
    children = [protocol.register_worker(parent=protocol.worker, kind="child") for _ in range(2)]
    protocol.claim(steps["nap"], worker=children[0])
    protocol.pass_time(30)
    protocol.claim(steps["doze"], steps["b"], worker=children[1])
    protocol.pass_time(150)
    task = protocol.submit()
    idle = protocol.register_worker(queues=["reports"])
    assert "; live workers serve it" in only(protocol, task, "nap")
    beat(protocol, protocol.worker, free=0)
    beat(protocol, idle, free=1)
    protocol.pass_time(18)
    assert only(protocol, task, "nap") == (
        "nap has been enqueued on queue `celery` for 18 s; all 2 places of the workers that serve it are "
        "busy: "
        f"{running}/nap for 3 min 18 s, {running}/doze for 2 min 48 s"
    )
    cancel(protocol, running)
    assert only(protocol, task, "nap").endswith(
        "are busy: 2 with handlers of ended attempts, or other Celery tasks"
    )
    beat(protocol, protocol.register_worker(), free=1)
    assert only(protocol, task, "nap").endswith("; live workers serve it")


def test_a_worker_of_threads_has_a_place_for_each_claim(protocol: Protocol, run: Run) -> None:
    running = run(", ".join(f"s{number}" for number in range(6)))
    steps = protocol.steps(running)
    protocol.claim(steps["s0"], steps["s1"])
    for number in range(2, 6):
        protocol.claim(steps[f"s{number}"])
    beat(protocol, protocol.worker, free=0)
    assert "all 5 places of the workers that serve it are busy: " in only(protocol, protocol.submit(), "s0")
    assert only(protocol, protocol.submit(), "s0").endswith("s3 for 0 s, 2 more steps")


def test_many_steps_that_wait_alike_share_a_sentence(protocol: Protocol, run: Run) -> None:
    names = [f"s{number}" for number in range(20)]
    task = run(f"a > {', '.join(names)}")
    reasons = why(protocol.connection, task)
    assert [reason.step for reason in reasons] == ["a", *names[:5], None]
    assert (reasons[-1].codes, str(reasons[-1])) == (
        ("parents_open",),
        "15 more steps likewise: s5, s6, s7, …",
    )
    assert only(protocol, task, "s19") == "s19 waits for its parents: a (enqueued)"


def test_one_step_more_is_named(protocol: Protocol, run: Run) -> None:
    task = run("a > b, c, d, e, f, g")
    assert said(protocol, task)[-1] == "1 more step likewise: g"


def test_a_missing_coordinator_is_said_first(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    assert why(protocol.connection, task)[0].codes == ("no_coordinator",)
    assert said(protocol, task)[0].startswith("no coordinator was ever seen: retries, timers, held steps")
    coordinate(protocol)
    assert "no coordinator" not in said(protocol, task)[0]
    protocol.pass_time(16)
    assert said(protocol, task)[0].startswith("no coordinator seen for 16 s: ")


def test_a_coordinator_is_not_missed_by_a_task_that_waits_for_an_operator(protocol: Protocol) -> None:
    protocol.register("a")
    task = protocol.submit()
    protocol.fail(protocol.steps(task)["a"], permanent=True)
    assert [reason.step for reason in why(protocol.connection, task)] == ["a"]


def test_a_task_or_step_that_does_not_exist_is_not_found(protocol: Protocol, run: Run) -> None:
    with pytest.raises(TaskNotFound):
        why(protocol.connection, UUID(int=0))
    with pytest.raises(StepNotFound, match='did you mean "charge"'):
        why(protocol.connection, run("charge"), "chrge")
