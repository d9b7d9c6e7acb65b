"""Rows: handlers that do what they must not, and values that must not get in."""

from __future__ import annotations

import decimal
from typing import Any, NamedTuple

import pytest

from tasker import Task, ValueRefused
from tests.acceptance.effects import assert_settled, assert_sound
from tests.faults.matrix import row
from tests.faults.rows_wires import assert_once
from tests.faults.stand import Stand

MISBEHAVING = "tests.faults.apps.misbehaving"


class Fate(NamedTuple):
    """How the step that misbehaves ends, and how its attempts did."""

    state: str
    attempts: dict[str, int]


FINE = Fate("complete", {"complete": 1})
FAILS = Fate("error", {"retry": 2, "error": 1})
FAILS_AT_ONCE = Fate("error", {"error": 1})
KILLS = Fate("error", {"lost": 4})
"""The first loss is charged to nobody, three more are this step's alone."""


def misbehave(stand: Stand, fates: dict[str, Fate]) -> list[Task]:
    """Run a task for each way, then all that must be true of each."""
    with stand.running(MISBEHAVING) as worker:
        tasks = {how: stand.submit("misbehaving/step", {"how": how}) for how in fates}
        found = {how: fate_of(stand, task) for how, task in tasks.items()}
        assert found == fates
        assert worker.process.poll() is None
        fine = stand.submit("misbehaving/step", {"how": "return"})
        assert_settled(stand, [fine])
        assert_sound(stand, [*tasks.values(), fine])
    return list(tasks.values())


def fate_of(stand: Stand, task: Task) -> Fate:
    stand.settled(task)
    query = """
        select coalesce(outcome, 'open'), count(*)
        from tasker.step_attempts a join tasker.steps s on s.id = a.step_id
        where s.task_id = %s and s.name = 'misbehave' and outcome is distinct from 'released'
        group by 1
    """
    return Fate(stand.states(task.id)["misbehave"], dict(stand.rows(query, task.id)))


@row(
    "47",
    "handlers that leave their place",
    how="sys.exit, KeyboardInterrupt, GeneratorExit, BaseException, endless recursion; forks, leaked threads "
    "and files, closed stdout, ignored SIGTERM",
    expected="a failure of their attempt at most; the worker goes on",
)
def _(stand: Stand) -> None:
    raised = ("sys_exit", "keyboard_interrupt", "generator_exit", "base_exception", "recursion")
    survived = ("fork", "close_output", "leak", "ignore_sigterm")
    misbehave(stand, dict.fromkeys(raised, FAILS) | dict.fromkeys(survived, FINE))


@row(
    "47b",
    "handlers that end their process",
    how="segmentation fault, os._exit(0), SIGKILL to itself as the kernel's when memory runs out",
    expected="error after three losses alone; neighbours are charged with nothing",
)
def _(stand: Stand) -> None:
    with stand.running("tests.faults.apps.poisoned"):
        neighbours = stand.fans(4)
        poison = {
            how: stand.submit("misbehaving/step", {"how": how}) for how in ("segfault", "os_exit", "kill")
        }
        assert {how: fate_of(stand, task) for how, task in poison.items()} == dict.fromkeys(poison, KILLS)
        assert_sound(stand, list(poison.values()))
        assert_settled(stand, neighbours)
        charged = "select distinct task_id from tasker.steps where losses > 0"
        assert {task for (task,) in stand.rows(charged)} <= {task.id for task in poison.values()}


@row(
    "48",
    "handlers that exhaust memory",
    how="an allocation beyond RLIMIT_AS",
    expected="MemoryError, a failure; the worker goes on",
)
def _(stand: Stand) -> None:
    misbehave(stand, {"memory": FAILS})


@row(
    "49",
    "results too large",
    how="100 MB; the limit; the limit and one byte",
    expected="refused for good, without a retry; the limit itself is stored",
)
def _(stand: Stand) -> None:
    misbehave(
        stand,
        {"100_megabytes": FAILS_AT_ONCE, "at_the_limit": FINE, "beyond_the_limit": FAILS_AT_ONCE},
    )


@row(
    "50",
    "results that are no JSON",
    how="sets, bytes, objects, functions, generators, circles, integers of 5 000 digits, numbers as keys",
    expected="refused for good, with the place; no retry",
)
def _(stand: Stand) -> None:
    wrong = ("set", "bytes", "object", "lambda", "generator", "circular", "huge_int", "number_key")
    tasks = misbehave(stand, dict.fromkeys(wrong, FAILS_AT_ONCE))
    query = "select error ->> 'message' from tasker.step_attempts where outcome = 'error'"
    assert all("the result of misbehave" in message for (message,) in stand.rows(query))
    assert len(tasks) == len(wrong)


@row(
    "51",
    "values that PostgreSQL cannot keep",
    how="NUL, lone surrogates, NaN, infinity, 1e5000, 100 000 levels, 100 000 keys; as results and in submit",
    expected="refused before they reach it; nothing of a refused submit is there",
)
def _(stand: Stand) -> None:
    wrong = ("nan", "infinity", "nul", "surrogate", "nul_key", "deep", "many_keys", "huge_decimal")
    misbehave(stand, dict.fromkeys(wrong, FAILS_AT_ONCE))
    before = stand.one("select count(*) from tasker.tasks")
    deep: Any = {}
    for _ in range(100_000):
        deep = {"in": deep}
    contexts: list[Any] = [
        {"a": "\0"},
        {"a": "\ud800"},
        {"a": float("nan")},
        {"a": float("-inf")},
        {"a\0b": 1},
        {"a": 10**5000},
        {"a": decimal.Decimal("1e5000")},
        {"a": {1, 2}},
        {"a": "x" * (1 << 20)},
        deep,
        [1],
    ]
    for context in contexts:
        with pytest.raises(ValueRefused):
            stand.tasker.submit("misbehaving/step", context)
    assert stand.one("select count(*) from tasker.tasks") == before


@row(
    "52",
    "exceptions that cannot be told",
    how="a message that raises, a lock in the arguments, 10 MB of text, NUL and surrogates",
    expected="stored cut and cleaned; retried like any other",
)
def _(stand: Stand) -> None:
    misbehave(stand, dict.fromkeys(("unsayable", "unpicklable", "huge_error", "nul_error"), FAILS))
    assert stand.one("select max(length(error::text)) from tasker.step_attempts") <= 20 << 10


@row(
    "53",
    "retries at their limits",
    how="a step that fails twice, one that always does, one not to be retried, one whose time is a year off",
    expected="as many attempts as allowed, none before its time",
)
def _(stand: Stand) -> None:
    with stand.running(MISBEHAVING):
        flaps = {n: stand.submit("misbehaving/step", {"how": "flap", "failures": n}) for n in (2, 3)}
        permanent = stand.submit("misbehaving/step", {"how": "permanent"})
        later = stand.submit("misbehaving/step", {"how": "retry_never"})
        assert fate_of(stand, flaps[2]) == Fate("complete", {"retry": 2, "complete": 1})
        assert fate_of(stand, flaps[3]) == FAILS
        assert fate_of(stand, permanent) == FAILS_AT_ONCE
        stand.await_state(later, "misbehave", "waiting_for_retry")
        early = """
            select count(*) from tasker.step_attempts a join tasker.step_attempts b using (step_id)
            where b.attempt = a.attempt + 1 and a.error ->> 'message' = 'flaps'
              and b.claimed_at < a.finished_at + interval '0.1 second'
        """
        assert stand.one(early) == 0
        assert later.cancel().state == "cancelled"
        assert_sound(stand, [*flaps.values(), permanent, later])


for number, skew in (("44", "2"), ("44b", "-2"), ("44c", "jumping")):

    def on_a_wrong_clock(stand: Stand, skew: str = skew) -> None:
        with stand.running("tests.faults.apps.skewed", TASKER_TEST_SKEW=skew):
            assert_once(stand, stand.fans(4))
            assert "silent" not in stand.stopped()

    row(
        number,
        "worker with a wrong clock",
        how=f"time.time {'jumps by 2 h to and fro' if skew == 'jumping' else f'is off by {skew} h'}",
        expected="nothing: only the database's clock counts",
    )(on_a_wrong_clock)
