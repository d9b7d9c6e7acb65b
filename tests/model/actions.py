"""What children, mains, the broker and coordinators do of themselves, in a system that nobody disturbs.

`undisturbed` lists what may happen next. The first line of an action's docstring is what a trace says of it.

A message is put into the broker in the same action in which the call that enqueued its step commits. That a
process dies between the two is the fault `lose`; that it is slow there is a message not yet delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.model import database
from tests.model.database import WorkerStopped
from tests.model.world import GONE, Call, Child, Ids, World, letter


class Action(NamedTuple):
    """A thing that may happen: `run(world, *arguments)`."""

    run: Callable[..., None]
    arguments: tuple[Any, ...] = ()


def undisturbed(world: World) -> Iterator[Action]:
    """What happens without faults and operators."""
    for child, it in enumerate(world.children):
        if it.life == "up":
            yield from of_child(world, child)
        else:
            yield from of_place(world, child)
    yield from of_calls(world)
    for main, of in enumerate(world.mains):
        if of.life == "up":
            yield from of_main(world, main)
        else:
            yield from of_idle_main(world, main)
        yield from of_watchers(world, main)
    for step in range(len(world.steps)):
        yield from of_loops(world, step)
    yield from of_recovery(world)
    if world.task.state == "paused":
        yield Action(resume)
    if world.full:
        yield Action(open_gate)


def excuse(world: World) -> None:
    """A fault may have cost steps their messages."""
    for number, row in enumerate(world.steps):
        if row.state == "enqueued" and not world.will_be_published(number):
            row.excused = True


# Children: worker/runner.py, worker/batch.py, worker/watchdog.py, worker/identity.py


def of_child(world: World, child: int) -> Iterator[Action]:
    """What a process that runs handlers does."""
    it = world.children[child]
    busy = any(call.heard and call.child == child and not call.watchdog for call in world.calls)
    if it.running:
        yield Action(end, (child, "complete"))
        if it.finished:
            yield Action(flush, (child,))
        if it.unbegun:
            yield Action(give_back, (child,))
    elif busy:
        return
    elif it.unbegun:
        yield Action(begin, (child,))
    elif it.finished:
        yield Action(report, (child, True))
        yield Action(report, (child, False))
    else:
        for ids in dict.fromkeys(world.messages):
            yield Action(receive, (child, ids))


def of_place(world: World, child: int) -> Iterator[Action]:
    """What becomes of a process that hangs or is dead."""
    it = world.children[child]
    if it.life == "hung":
        yield Action(kill_hung, (child,))
    elif it.row != "live" and world.mains[world.case.mains[child]].life == "up":
        yield Action(replace_child, (child,))


def receive(world: World, child: int, ids: Ids) -> None:
    """{child} receives the message of {ids} and calls claim_steps"""
    world.messages.remove(ids)
    world.calls.append(Call("claim", child, world.fresh_claim(), ids))


def begin(world: World, child: int) -> None:
    """{child} begins the handler of the first step it holds"""
    it = world.children[child]
    (step, claim), *rest = it.unbegun
    if (step, claim) in world.begun:
        raise database.Broken(f"one attempt of step {letter(step)} was begun twice")
    world.begun.add((step, claim))
    it.unbegun, it.running = tuple(rest), (step, claim)
    if step in world.case.poison:
        die(world, child, under_way=False)


def end(world: World, child: int, kind: str) -> None:
    """the handler of {child} ends: {kind}"""
    it = world.children[child]
    (step, claim), it.running = it.running or (GONE, 0), ()
    it.finished = (*it.finished, (step, claim, kind))


def report(world: World, child: int, keep: bool) -> None:  # noqa: FBT001 - an argument of an action
    """{child} calls finish_steps with what has finished, keeping {keep}"""
    it = world.children[child]
    call = Call("finish", child, world.fresh_claim(), it.finished, keep=keep)
    it.finished = ()
    world.calls.append(call)


def flush(world: World, child: int) -> None:
    """the watchdog of {child} calls finish_steps while a handler runs"""
    it = world.children[child]
    world.calls.append(Call("finish", child, world.fresh_claim(), it.finished, watchdog=True))
    it.finished = ()


def give_back(world: World, child: int) -> None:
    """the watchdog of {child} calls release_steps for what has not begun"""
    it = world.children[child]
    ids, claim = tuple(step for step, _ in it.unbegun), it.unbegun[0][1]
    it.unbegun = ()
    world.calls.append(Call("release", child, claim, ids, watchdog=True))


def kill_hung(world: World, child: int) -> None:
    """{child} hangs in a handler and is killed at its hard limit"""
    die(world, child, under_way=False)


def replace_child(world: World, child: int) -> None:
    """a new process takes the place of {child}"""
    world.leave_row(child)
    world.children[child] = Child()


def die(world: World, child: int, *, under_way: bool) -> None:
    """The process is gone; its calls may still be under way, but nobody hears their answers."""
    it = world.children[child]
    it.life, it.unbegun, it.running, it.finished = "dead", (), (), ()
    own = [call for call in world.calls if call.heard and call.child == child]
    world.calls = [call for call in world.calls if call not in own]
    world.calls += [call._replace(heard=False) for call in own if under_way]
    excuse(world)


# Calls: db/functions.py, db/engine.py, orchestration/advance.py, orchestration/patience.py

READS = {"lock before the look", "waiting for locks", "commit before publish"}
"""Broken rules by which a finish does something before it acts."""


def of_calls(world: World) -> Iterator[Action]:
    """Calls act, in any order."""
    for call in dict.fromkeys(world.calls):
        if call.kind == "finish" and not call.seen and world.case.without in READS:
            yield Action(read, (call,))
        else:
            yield Action(act, (call,))


def act(world: World, call: Call) -> None:
    """{call} acts and is answered"""
    world.calls.remove(call)
    try:
        answer(world, call, *execute(world, call))
    except WorkerStopped:
        if call.heard:
            start_over(world, call)
    if not call.heard:
        excuse(world)


def execute(world: World, call: Call) -> tuple[Ids, Ids]:
    """The call in the database: the steps it says are the caller's, and what is to be published."""
    if call.kind == "release":
        return (), database.release_steps(world, call)
    if call.kind == "finish":
        return database.finish_steps(world, call)
    if call.heard and world.children[call.child].row == "none":
        if world.mains[world.case.mains[call.child]].row != "live":
            raise WorkerStopped
        world.children[call.child].row = "live"
    return database.claim_steps(world, call), ()


def answer(world: World, call: Call, held: Ids, publish: Ids) -> None:
    """The caller, if it still listens, has its answer."""
    if call.heard:
        early = call.seen if world.case.without == "commit before publish" else ()
        world.publish(tuple(step for step in publish if step not in early))
        for step in held:
            world.steps[step].unheard = False
        # an attempt is known by the claim that won it; what a fence lets through is another's
        world.children[call.child].unbegun += tuple((step, world.steps[step].claim) for step in held)


def start_over(world: World, call: Call) -> None:
    """TK001: the process leaves its row; a claim goes on under a new claim id, a finish without keeping."""
    if world.children[call.child].row != "none":
        world.leave_row(call.child)
    if call.kind == "claim":
        world.calls.append(call._replace(claim=world.fresh_claim(), seen=()))
    else:
        world.calls.append(call._replace(keep=False, seen=()))


def read(world: World, call: Call) -> None:
    """{call} begins, by the broken rule"""
    steps, children = world.steps, world.children_of(call.payload)
    if world.case.without == "lock before the look":
        done = tuple(it for it, row in enumerate(steps) if row.state in ("complete", "skipped"))
        seen = done
    elif world.case.without == "waiting for locks":
        taken = {step for other in world.calls if other.kind == "finish" for step in other.seen}
        seen = tuple(child for child in children if child not in taken)
    else:
        seen = tuple(child for child in children if steps[child].left == 1)
        world.messages += [(step,) for step in seen]
    world.calls[world.calls.index(call)] = call._replace(seen=(*seen, GONE))


# Mains: worker/heartbeat.py, worker/children.py


def of_main(world: World, main: int) -> Iterator[Action]:
    """What a process with a heartbeat does."""
    it = world.mains[main]
    if it.row == "stopped":
        yield Action(register_again, (main,))
    elif it.looked == "silent":
        yield Action(beat, (main,))
    for child, of in enumerate(world.case.mains):
        if of == main and (world.children[child].life, world.children[child].row) == ("dead", "live"):
            yield Action(miss_child, (child,))


def of_idle_main(world: World, main: int) -> Iterator[Action]:
    """What becomes of a main that is paused or dead."""
    if world.mains[main].life == "paused":
        yield Action(continue_main, (main,))
    elif world.mains[main].row == "stopped":
        yield Action(replace_main, (main,))


def replace_main(world: World, main: int) -> None:
    """a new process takes the place of {main}"""
    world.mains[main].life = "up"
    world.mains[main].row = "live"


def continue_main(world: World, main: int) -> None:
    """{main} goes on"""
    world.mains[main].life = "up"


def register_again(world: World, main: int) -> None:
    """{main} finds its row stopped and registers anew"""
    world.mains[main].row = "live"


def beat(world: World, main: int) -> None:
    """{main} beats (beat_worker)"""
    world.mains[main].looked = "beating"


def miss_child(world: World, child: int) -> None:
    """the main of {child} sees that its process is gone (stop_workers)"""
    stop_row(world, child)


def stop_row(world: World, child: int) -> None:
    """What stop_workers.sql does to a child's row."""
    lost = database.lost_steps(world)
    world.children[child].row = "stopped"
    if world.case.without == "recovery that looks again":
        new = tuple(step for step in database.lost_steps(world) if step not in lost)
        world.publish(database.recover_steps(world, new))


# Coordinators: orchestration/coordinator.py, orchestration/recovery.py


def of_loops(world: World, step: int) -> Iterator[Action]:
    """The passes over steps; two coordinators at once are two passes in a row."""
    row, without = world.steps[step], world.case.without
    if row.state == "waiting_for_retry":
        yield Action(due, (step,))
    elif row.state == "ready" and world.task.state != "paused":
        if world.full or without != "dispatch behind an open gate":
            yield Action(dispatch, (step,))
    elif row.state == "enqueued" and without != "republisher" and not world.will_be_published(step):
        yield Action(republish, (step,))
    elif row.state == "in_progress" and without != "time limits" and outlasts(world, step):
        yield Action(expire, (step,))


def of_watchers(world: World, main: int) -> Iterator[Action]:
    """The watch over beats."""
    it = world.mains[main]
    if it.row == "live" and not it.looked and it.life != "up":
        yield Action(look, (main,))
    if it.row == "live" and it.looked:
        yield Action(stop_main, (main,))


def of_recovery(world: World) -> Iterator[Action]:
    """Taking back what stopped workers held."""
    if world.found:
        yield Action(recover, (world.found,))
    elif world.case.without != "recovery that looks again" and (lost := database.lost_steps(world)):
        yield Action(find_lost, (lost,))


def outlasts(world: World, step: int) -> bool:
    """Whether a live worker will never report the attempt: its handler hangs, or it does not know of it."""
    row = world.steps[step]
    if world.row_is_stopped(row.worker) or world.children[row.worker].life == "dead":
        return False  # that is for recovery
    if row.unheard:
        return not any(call.heard and call.claim == row.claim for call in world.calls)
    return any(it.life == "hung" and it.running == (step, row.claim) for it in world.children)


def due(world: World, step: int) -> None:
    """the retry of {step} is due (due_steps)"""
    database.offer(world, step)
    world.publish((step,) * (world.steps[step].state == "enqueued"))


def dispatch(world: World, step: int) -> None:
    """{step} is held no longer (dispatch_steps)"""
    database.move(world, step, "enqueued")
    world.publish((step,))


def open_gate(world: World) -> None:
    """the gate opens (top_up_queue); it may not see what a call that acts beside it is about to hold back"""
    world.full = False


def republish(world: World, step: int) -> None:
    """the message of {step} is lost and is sent again (republish_steps)"""
    world.publish((step,))


def expire(world: World, step: int) -> None:
    """the attempt of {step} is past its time limit and is ended (time_out_steps)"""
    world.publish(database.time_out_step(world, step))


def look(world: World, main: int) -> None:
    """{main} is seen to be silent, and its beats are noted"""
    world.mains[main].looked = "silent"


def stop_main(world: World, main: int) -> None:
    """the row of {main} is stopped if its beats are still those noted (stop_workers)"""
    it = world.mains[main]
    beats = it.looked == "silent"
    it.looked = ""
    if not beats and world.case.without == "compare-and-swap on beats":
        raise database.Broken("a main that has beaten since it was looked at was taken for dead")
    if beats:
        it.row = "stopped"
        for child, of in enumerate(world.case.mains):
            if of == main and world.children[child].row == "live":
                stop_row(world, child)


def find_lost(world: World, ids: Ids) -> None:
    """a coordinator finds {ids} open under stopped workers (recover_steps, before its locks)"""
    world.found = ids


def recover(world: World, ids: Ids) -> None:
    """the coordinator locks {ids} and takes them back (recover_steps)"""
    world.found = ()
    world.publish(database.recover_steps(world, ids))


def resume(world: World) -> None:
    """the task is resumed"""
    database.move_task(world, "in_progress")
    database.settle(world)
