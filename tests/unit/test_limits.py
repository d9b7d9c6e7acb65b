"""What a handler is told, in which thread, and that nothing is raised once it has ended."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from tasker.domain.errors import StepCancelled, StepTimeout
from tasker.domain.replies import ClaimedStep
from tasker.settings import Settings
from tasker.worker.interrupt import Alarm, raise_in_thread, where
from tasker.worker.limits import Limits, Running

LONG_SECONDS = 30


def step(timeout_seconds: float = 0.05) -> ClaimedStep:
    values: dict[str, Any] = {"claim": UUID(int=1), "id": 1, "task_id": "t", "name": "a", "handler": "h"}
    limits = {"attempt": 1, "failures": 0, "max_attempts": 3, "timeout_ms": round(1000 * timeout_seconds)}
    rest: dict[str, Any] = {
        "never_for": [],
        "config": None,
        "queue": "q",
        "parents": 0,
        "transactional": False,
    }
    return ClaimedStep(**values, **limits, **rest, results=None)


@pytest.fixture
def limits() -> Limits:
    return Limits(Settings(timeout_grace_seconds=1, cancel_grace_seconds=0), may_die=False)


@pytest.fixture
def before() -> Iterator[list[int]]:
    """The signals that went to the handler that was there before ours."""
    received: list[int] = []
    usual = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGUSR1, usual)


def hang(_: Running) -> None:
    """In a system call, where there is one to interrupt; elsewhere in short ones."""
    until = time.monotonic() + LONG_SECONDS
    while time.monotonic() < until:
        time.sleep(LONG_SECONDS if threading.current_thread() is threading.main_thread() else 0.001)


def call(limits: Limits, claimed: ClaimedStep, handler: Callable[[Running], object]) -> object:
    """As the executor does: what is raised in the end may hit `end` itself, once."""
    running = limits.begin(claimed)
    try:
        try:
            return handler(running)
        finally:
            limits.end(running)
    except (StepTimeout, StepCancelled) as told:
        limits.end(running)
        return told


def in_thread(work: Callable[[], object]) -> object:
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    return answers[0]


def in_main(work: Callable[[], object]) -> object:
    return work()


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("place", [in_main, in_thread])
def test_a_handler_is_told_once_when_its_time_is_over(
    limits: Limits, place: Callable[[Callable[[], object]], object]
) -> None:
    began = time.monotonic()
    assert isinstance(place(lambda: call(limits, step(), hang)), StepTimeout)
    assert 0.05 <= time.monotonic() - began < LONG_SECONDS / 2


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("place", [in_main, in_thread])
def test_a_handler_that_ends_in_time_is_told_nothing_nor_is_the_next_one(
    limits: Limits, place: Callable[[Callable[[], object]], object]
) -> None:
    def quick(running: Running) -> str:
        limits.look(running.soft_at - 0.001)
        return "done"

    def several() -> list[object]:
        return [call(limits, step(LONG_SECONDS), quick) for _ in range(3)]

    assert place(several) == ["done"] * 3


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("place", [in_main, in_thread])
def test_of_a_handler_that_ends_while_it_is_told_nothing_is_left_to_hit_what_follows(
    limits: Limits, place: Callable[[Callable[[], object]], object]
) -> None:
    """The watch and the end of the handler meet at every instruction of it, by chance, often."""

    def brief(running: Running) -> str:
        until = running.soft_at + 0.0002
        while time.monotonic() < until:
            pass
        return "done"

    def watch(over: threading.Event) -> None:
        while not over.is_set():
            limits.look(time.monotonic())

    def rounds() -> list[object]:
        return [call(limits, step(0.001), brief) for _ in range(100)]

    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(over,))
    watcher.start()
    try:
        answers = place(rounds)
    finally:
        over.set()
        watcher.join()
    assert isinstance(answers, list)
    assert {type(answer) for answer in answers} <= {str, StepTimeout}
    for _ in range(1000):
        time.monotonic()


def test_a_signal_of_somebody_else_goes_to_the_handler_that_was_there(
    limits: Limits, before: list[int]
) -> None:
    call(limits, step(LONG_SECONDS), lambda _: signal.raise_signal(signal.SIGUSR1))
    signal.raise_signal(signal.SIGUSR1)
    assert before == [signal.SIGUSR1] * 2


def test_a_signal_that_comes_when_its_handler_has_ended_disturbs_nobody(
    limits: Limits, before: list[int]
) -> None:
    def disturbed(_: Running) -> str:
        limits._main.interrupt(StepTimeout)
        return "done"

    assert call(limits, step(LONG_SECONDS), disturbed) == "done"
    limits._main.interrupt(StepTimeout)
    assert before == []


def test_what_a_thread_has_not_been_told_yet_can_be_taken_back() -> None:
    door, arrived = threading.Lock(), threading.Event()
    answers: list[str] = []

    def wait() -> None:
        arrived.set()
        with door:
            answers.append("undisturbed")

    door.acquire()
    thread = threading.Thread(target=wait)
    thread.start()
    assert arrived.wait(10)
    assert thread.ident is not None
    raise_in_thread(thread.ident, StepTimeout)
    raise_in_thread(thread.ident, None)
    door.release()
    thread.join()
    assert answers == ["undisturbed"]


@pytest.mark.usefixtures("before")
def test_a_handler_whose_attempt_was_ended_reads_so_and_is_told_after_the_grace(limits: Limits) -> None:
    seen: list[bool] = []

    def cancelled(running: Running) -> None:
        limits.cancel(running)
        seen.append(running.is_cancelled())
        hang(running)

    assert isinstance(call(limits, step(LONG_SECONDS), cancelled), StepCancelled)
    assert seen == [True]


@pytest.mark.usefixtures("before")
def test_a_handler_whose_attempt_was_ended_is_told_no_later_than_its_time_is_over() -> None:
    patient = Limits(Settings(timeout_grace_seconds=1, cancel_grace_seconds=LONG_SECONDS), may_die=False)

    def cancelled(running: Running) -> None:
        before = running.soft_at, running.hard_at
        patient.cancel(running)
        assert (running.soft_at, running.hard_at) == before
        hang(running)

    assert isinstance(call(patient, step(), cancelled), StepCancelled)


@pytest.mark.usefixtures("before")
def test_a_process_that_ends_itself_moves_the_alarm_on_once() -> None:
    limits = Limits(Settings(timeout_grace_seconds=0), may_die=True)

    def overdue(running: Running) -> tuple[float, float, float]:
        stood = signal.getitimer(signal.ITIMER_REAL)[0]
        with suppress(StepTimeout):  # told, it goes on
            limits.look(running.hard_at + 10)
            hang(running)
        moved = signal.getitimer(signal.ITIMER_REAL)[0]
        limits.look(running.hard_at + 20)
        return stood, moved, signal.getitimer(signal.ITIMER_REAL)[0]

    stood, moved, stands = call(limits, step(1), overdue)  # type: ignore[misc]
    assert 1.3 < stood <= 1.9
    assert 1.3 < moved <= 1.9, "from the time of the look"
    assert stands <= moved, "a database that says nothing gets no more"
    limits.rest()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.usefixtures("before")
def test_a_handler_is_given_up_once_and_only_while_it_runs(limits: Limits) -> None:
    given_up = []

    def handler(running: Running) -> Running:
        given_up.extend([limits.give_up(running), limits.give_up(running)])
        return running

    running = call(limits, step(LONG_SECONDS), handler)
    assert given_up == [True, False]
    ended = call(limits, step(LONG_SECONDS), lambda own: own)
    assert isinstance(running, Running)
    assert isinstance(ended, Running)
    assert not limits.give_up(ended)


@pytest.mark.usefixtures("before")
def test_a_coroutine_is_told_by_cancelling_it_and_a_loop_that_is_blocked_by_interrupting_it(
    limits: Limits,
) -> None:
    loop = asyncio.new_event_loop()

    def run(running: Running, work: Any) -> object:
        running.task = loop.create_task(work)
        return loop.run_until_complete(running.task)

    async def patient() -> str:
        try:
            await asyncio.sleep(LONG_SECONDS)
        except asyncio.CancelledError:
            return "cleaned up"
        return "slept"

    async def blocking() -> None:
        hang_in_main()

    def hang_in_main() -> None:
        time.sleep(LONG_SECONDS)

    assert call(limits, step(), lambda running: run(running, patient())) == "cleaned up"
    assert isinstance(call(limits, step(), lambda running: run(running, blocking())), StepTimeout)
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"
    loop.close()


def test_where_a_thread_is_ends_at_the_module_asked_for() -> None:
    place = where(threading.get_ident(), below="nowhere")
    inner = where(threading.get_ident(), below=__name__)
    assert place is not None
    while place.tb_next is not None:
        place = place.tb_next
    assert place.tb_frame.f_code is where.__code__
    assert inner is not None
    assert inner.tb_frame.f_code is where.__code__


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    """One that stands far off whatever happens here."""
    made = Alarm()
    yield made
    made.clear()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_alarm_stands_after_the_hard_limit_and_is_moved_only_when_it_must(alarm: Alarm) -> None:
    now = time.monotonic()
    alarm.cover(now + 100, now)
    first = signal.getitimer(signal.ITIMER_REAL)[0]
    assert 100.3 < first <= 100.9
    alarm.cover(now + 100.5, now)
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= first
    alarm.cover(now + 101, now)
    assert 101.3 < signal.getitimer(signal.ITIMER_REAL)[0] <= 101.9
    alarm.clear(unless=lambda: True)
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 100


def test_an_application_that_handles_the_alarm_itself_keeps_it(alarm: Alarm) -> None:
    usual = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        now = time.monotonic()
        alarm.cover(now + 100, now)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.signal(signal.SIGALRM, usual)
