"""What disturbs a system: faults, at the cost of one of `world.budget` each, and operators, at that of
one of `world.meddles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from tasker.domain.states import STEP_MOVES, allowed
from tests.model import database
from tests.model.actions import Action, die, end, excuse, execute, start_over, stop_main
from tests.model.database import WorkerStopped
from tests.model.world import GONE, SATISFYING, Call, Ids, World


def disturbing(world: World) -> Iterator[Action]:
    """Every fault and every operator's act that may happen now."""
    if world.budget:
        yield from of_faults(world)
    if world.meddles:
        yield from of_operators(world)


def fault(run: Callable[..., None]) -> Callable[..., None]:
    """An action that costs one of world.budget, and may cost a step its message."""

    @wraps(run)
    def action(world: World, *arguments: Any) -> None:
        world.budget -= 1
        run(world, *arguments)
        excuse(world)

    return action


def meddling(run: Callable[..., None]) -> Callable[..., None]:
    """An action that costs one of world.meddles."""

    @wraps(run)
    def action(world: World, *arguments: Any) -> None:
        world.meddles -= 1
        run(world, *arguments)

    return action


# Faults


def of_faults(world: World) -> Iterator[Action]:
    """What may go wrong, of the kinds that the case has."""
    kinds = world.case.faults
    for ids in dict.fromkeys(world.messages):
        for run in (lose, double):
            if run.__name__ in kinds:
                yield Action(run, (ids,))
    for call in dict.fromkeys(world.calls):
        yield from of_bad_lines(world, call)
    for child, it in enumerate(world.children):
        if it.life == "up":
            yield from of_bad_children(world, child)
    for main in range(len(world.mains)):
        yield from of_bad_mains(world, main)


def of_bad_mains(world: World, main: int) -> Iterator[Action]:
    """What may become of a process with a heartbeat."""
    it, kinds = world.mains[main], world.case.faults
    if it.life == "up":
        for run in (pause_main, crash_main):
            if run.__name__ in kinds:
                yield Action(run, (main,))
    if it.looked == "silent" and "stop_main_only" in kinds:
        for child, of in enumerate(world.case.mains):
            if of == main and world.children[child].row == "live":
                yield Action(stop_main_only, (main, child))


def of_bad_children(world: World, child: int) -> Iterator[Action]:
    """What may become of a process that runs handlers."""
    kinds = world.case.faults
    if world.children[child].running:
        for run in (fail, hang):
            if run.__name__ in kinds:
                yield Action(run, (child,))
    if "crash" in kinds:
        yield Action(crash, (child, False))
        if any(call.heard and call.child == child for call in world.calls):
            yield Action(crash, (child, True))


def of_bad_lines(world: World, call: Call) -> Iterator[Action]:
    """What a connection may do to a call."""
    kinds = world.case.faults
    if call.heard and "act_unanswered" in kinds and not call.seen:
        yield Action(act_unanswered, (call,))
    if call.heard and "call_again" in kinds:
        yield Action(call_again, (call,))
    asserts = call.kind == "claim" or call.keep
    if asserts and "check_first" in kinds and not call.seen and not world.row_is_stopped(call.child):
        yield Action(check_first, (call,))


@fault
def lose(world: World, ids: Ids) -> None:
    """the broker loses the message of {ids}"""
    world.messages.remove(ids)


@fault
def double(world: World, ids: Ids) -> None:
    """the broker doubles the message of {ids}"""
    world.messages.append(ids)


@fault
def act_unanswered(world: World, call: Call) -> None:
    """{call} acts and commits, but the answer is lost: it will be repeated"""
    try:
        execute(world, call)
    except WorkerStopped:
        world.calls.remove(call)
        start_over(world, call)


@fault
def call_again(world: World, call: Call) -> None:
    """{call} is given up and repeated while the first copy is still under way"""
    world.calls.append(call._replace(heard=False))


@fault
def check_first(world: World, call: Call) -> None:
    """{call} finds its worker alive (assert_worker) and then waits"""
    world.calls[world.calls.index(call)] = call._replace(seen=(GONE,))


@fault
def fail(world: World, child: int) -> None:
    """the handler of {child} raises"""
    end(world, child, "failure")


@fault
def hang(world: World, child: int) -> None:
    """the handler of {child} hangs"""
    world.children[child].life = "hung"


@fault
def crash(world: World, child: int, under_way: bool) -> None:  # noqa: FBT001 - an argument of an action
    """{child} dies, its calls under way: {under_way}"""
    die(world, child, under_way=under_way)


@fault
def crash_main(world: World, main: int) -> None:
    """{main} dies, and its children with it"""
    world.mains[main].life = "dead"
    for child, of in enumerate(world.case.mains):
        if of == main:
            die(world, child, under_way=True)


@fault
def pause_main(world: World, main: int) -> None:
    """{main} is stopped by a signal; its children run on"""
    world.mains[main].life = "paused"


@fault
def stop_main_only(world: World, main: int, child: int) -> None:
    """the row of {main} is stopped just as {child} registers, whose row is not seen"""
    world.children[child].row = "missed"
    stop_main(world, main)


# Operators, by orchestration/operate.py


def of_operators(world: World) -> Iterator[Action]:
    """What operators may do, of what the case lets them."""
    can, task = world.case.operators, world.task.state
    if "cancel" in can and task in ("in_progress", "paused", "error"):
        yield Action(cancel)
    if "pause" in can and task == "in_progress":
        yield Action(pause)
    if "close_gate" in can and not world.full:
        yield Action(close_gate)
    if "pass_deadline" in can and task in ("in_progress", "paused"):
        yield Action(pass_deadline)
    if task != "cancelled":
        for step, row in enumerate(world.steps):
            for event, run, *kinds in OPERATIONS:
                if event in can and row.state in FROM[event]:
                    yield Action(run, (step, *kinds))


@meddling
def cancel(world: World) -> None:
    """an operator cancels the task (cancel_tasks)"""
    database.cancel_tasks(world)


@meddling
def pause(world: World) -> None:
    """an operator pauses the task"""
    database.move_task(world, "paused")


@meddling
def close_gate(world: World) -> None:
    """so much is published that the gate closes (top_up_queue)"""
    world.full = True


@meddling
def skip(world: World, step: int) -> None:
    """an operator skips {step} (skip_steps)"""
    world.publish(database.skip_step(world, step))


@meddling
def resolve(world: World, step: int, kind: str) -> None:
    """an operator resolves {step}: {kind} (resolve_steps)"""
    world.publish(database.resolve_step(world, step, kind))


@meddling
def retry(world: World, step: int) -> None:
    """an operator retries {step} (retry_steps)"""
    world.publish(database.retry_step(world, step))


@meddling
def park_by_hand(world: World, step: int) -> None:
    """an operator parks {step} (park_by_hand)"""
    database.fail_step(world, step)


@meddling
def miss_start(world: World, step: int) -> None:
    """nobody has begun {step} in time (expire_steps)"""
    database.fail_step(world, step)


@meddling
def pass_deadline(world: World) -> None:
    """the deadline of the task passes (expire_tasks)"""
    database.expire_tasks(world)


@meddling
def rerun(world: World, step: int) -> None:
    """an operator reruns {step} and all after it"""
    world.publish(database.rerun_step(world, step))


EVENTS = ("skip", "resolve", "retry", "park_by_hand", "miss_start")
FROM = {event: allowed(STEP_MOVES, event) for event in EVENTS} | {"rerun": SATISFYING}
OPERATIONS = (
    ("skip", skip),
    ("resolve", resolve, "resolved_manually"),
    ("resolve", resolve, "complete"),
    ("retry", retry),
    ("park_by_hand", park_by_hand),
    ("miss_start", miss_start),
    ("rerun", rerun),
)
