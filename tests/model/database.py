"""What the SQL functions do to the rows; each function here names the file in sql/functions that it mirrors.

A call acts all at once. That is what its locks achieve, and what tests/sql/test_schedules.py shows of the
real functions; what a function reads before it holds its locks is told apart from what it does then
(`Call.seen`, `World.found`).

Where a rule can be broken, `case.without` names it. A function raises `Broken` when it does what must never
be done, as far as that shows in no row.
"""

from __future__ import annotations

from tasker.domain.states import STEP_MOVES, TASK_MOVES
from tests.model.world import ACTIVE, FINAL, GONE, SATISFYING, Call, Ids, World, letter

LEGAL_STEPS = {(str(move.source), str(move.target)) for move in STEP_MOVES}
LEGAL_TASKS = {(str(move.source), str(move.target)) for move in TASK_MOVES}


class Broken(Exception):
    """What must never happen has happened."""


class WorkerStopped(Exception):
    """TK001: the worker's row, or its main's, is stopped."""


def move(world: World, step: int, to: str) -> None:
    """A step goes to another state, by the table of moves; the task's counters change with it, as
    advance_tasks.sql makes them from the list of moves."""
    row, task = world.steps[step], world.task
    if (row.state, to) not in LEGAL_STEPS:
        raise Broken(f"step {letter(step)} went from {row.state} to {to}")
    task.open += (to not in FINAL) - (row.state not in FINAL)
    task.active += (to in ACTIVE) - (row.state in ACTIVE)
    task.failed += (to == "error") - (row.state == "error")
    row.state = to
    row.excused = False


def move_task(world: World, to: str) -> None:
    """The task goes to another state, by the table of moves."""
    if (world.task.state, to) not in LEGAL_TASKS:
        raise Broken(f"the task went from {world.task.state} to {to}")
    world.task.state = to


def end_attempt(world: World, step: int) -> None:
    """`update tasker.step_attempts set finished_at = …`, wherever it is done."""
    row = world.steps[step]
    row.open -= row.open > 0
    row.worker, row.unheard = GONE, False


def offer(world: World, step: int) -> None:
    """offer_steps.sql: to enqueued, or to ready while the task is paused. Behind a closed gate only what has
    had its turn is enqueued, and children, until it is known which of them are kept."""
    waits = world.full and world.steps[step].state not in ("pending", "in_progress")
    move(world, step, "ready" if waits or world.task.state == "paused" else "enqueued")


def hold_back(world: World, opened: Ids) -> None:
    """advance_tasks.sql: children that nobody kept are ready, not enqueued, behind a closed gate."""
    for step in opened if world.full else ():
        if world.steps[step].state == "enqueued":
            move(world, step, "ready")


def advance(world: World, satisfied: Ids) -> Ids:
    """advance_tasks.sql: the children of steps just satisfied lose a parent for each, and the task settles.
    Returns the children that may run now."""
    opened = []
    for child in [child for step in satisfied for child in world.case.children[step]]:
        row = world.steps[child]
        row.left -= 1
        if row.left == 0 and row.state == "pending":
            offer(world, child)
            opened.append(child)
    settle(world)
    return tuple(opened)


def settle(world: World) -> None:
    """advance_tasks.sql, the task's state from its counters."""
    task = world.task
    if task.open == 0 and task.state in ("in_progress", "paused", "error"):
        move_task(world, "complete")
    elif task.state == "in_progress" and task.active == 0 and task.failed > 0:
        move_task(world, "error")
    elif task.state == "error" and task.active > 0:
        move_task(world, "in_progress")


def win(world: World, step: int, call: Call) -> None:
    """enqueued → in_progress with an attempt of its own, in claim_steps.sql and advance_tasks.sql."""
    if (step, call.claim) in world.won:
        raise Broken(f"a claim won step {letter(step)} a second time, and nobody waits for the answer")
    move(world, step, "in_progress")
    row = world.steps[step]
    row.claim, row.worker, row.unheard = call.claim, call.child, not call.heard
    row.open += 1
    world.won.add((step, call.claim))


def assert_worker(world: World, call: Call) -> None:
    """assert_worker.sql; takes no lock, so what it saw may have changed when the call acts (`seen`)."""
    if not call.seen and world.row_is_stopped(call.child):
        raise WorkerStopped


def claim_steps(world: World, call: Call) -> Ids:
    """claim_steps.sql: takes what is enqueued; answers all that is in progress under this claim."""
    assert_worker(world, call)
    without = world.case.without
    moved = []
    for step in call.payload:
        if world.steps[step].state == "enqueued":
            if world.task.state != "in_progress":
                move(world, step, "ready")
            elif (step, call.claim) not in world.won or without == "one win for each claim id":
                win(world, step, call)
                moved.append(step)
            else:
                world.steps[step].excused = True  # its message came to a claim that has had it
    if without == "answers are read from the state":
        return tuple(moved)
    return tuple(step for step in call.payload if holds(world, step, call.claim))


def holds(world: World, step: int, claim: int) -> bool:
    """The fence, (state, claim id), as claimed.sql and release_steps.sql read it."""
    row = world.steps[step]
    return row.state == "in_progress" and (
        row.claim == claim or world.case.without == "claim id in the fence"
    )


def finish_steps(world: World, call: Call) -> tuple[Ids, Ids]:
    """finish_steps.sql: records outcomes, advances, keeps one step at most; answers what it kept and what is
    to be published."""
    if call.keep:
        assert_worker(world, call)
    done = tuple(step for step, claim, kind in call.payload if record(world, step, claim, kind))
    children = world.children_of(call.payload)
    opened = wrongly_advanced(world, call, done)
    if opened is None:
        opened = advance(world, done)
    kept = tuple(step for step in opened if call.keep and may_keep(world, step))[:1]
    for step in kept:
        win(world, step, call)
    hold_back(world, opened)
    if world.case.without != "answers are read from the state":
        kept = tuple(step for step in children if call.keep and holds(world, step, call.claim))
    publish = opened if done else recorded_children(world, call)
    return kept, tuple(step for step in publish if world.steps[step].state == "enqueued")


def recorded_children(world: World, call: Call) -> Ids:
    """What a repeat of a finish publishes again: the children of what was recorded of it."""
    recorded = [
        (step, claim, kind)
        for step, claim, kind in call.payload
        if (world.steps[step].state, world.steps[step].claim) == ("complete", claim)
    ]
    return world.children_of(tuple(recorded))


def record(world: World, step: int, claim: int, kind: str) -> bool:
    """finish_steps.sql, record_failures.sql: one outcome under the fence; whether it completed the step."""
    row = world.steps[step]
    fits = row.state == "in_progress" and row.claim == claim
    if world.case.without == "finish that is safe to repeat":
        fits = row.claim == claim
        if row.state == "complete" and fits:
            return kind == "complete"
    if world.case.without == "fence of late outcomes":
        fits = row.state == "in_progress"
    if not fits:
        return False
    if row.claim != claim:
        raise Broken(f"step {letter(step)} was recorded by a claim that does not hold it")
    end_attempt(world, step)
    if kind == "complete":
        move(world, step, "complete")
        row.done += 1
    else:
        row.failures += 1
        move(world, step, "error" if row.failures >= world.case.max_attempts else "waiting_for_retry")
    return kind == "complete"


def may_keep(world: World, step: int) -> bool:
    """advance_tasks.sql: enqueued, not published yet, not alone."""
    return world.steps[step].state == "enqueued" and not world.steps[step].alone


def wrongly_advanced(world: World, call: Call, done: Ids) -> Ids | None:
    """What `advance` would do without its locks, or with locks that came too late; None for the real one."""
    if world.case.without == "lock before the look":
        # which parents are still open was read when the call waited, in the snapshot of its one statement
        opened = []
        for child in world.children_of(call.payload) if done else ():
            row = world.steps[child]
            row.left = len([it for it in world.case.parents[child] if it not in (*call.seen, *done)])
            if row.left == 0 and row.state == "pending":
                offer(world, child)
                opened.append(child)
        settle(world)
        return tuple(opened)
    if world.case.without == "waiting for locks":
        # steps that another call had locked were skipped
        for child in [child for step in done for child in world.case.children[step] if child in call.seen]:
            world.steps[child].left -= 1
            if world.steps[child].left == 0:
                offer(world, child)
        settle(world)
        return tuple(child for child in call.seen if world.steps[child].state == "enqueued")
    return None


def release_steps(world: World, call: Call) -> Ids:
    """release_steps.sql: what the claim holds is enqueued or ready again; answers what to publish."""
    for step in call.payload:
        if holds(world, step, call.claim):
            if (step, world.steps[step].claim) in world.begun:
                raise Broken(f"step {letter(step)} was given back though its handler has begun")
            end_attempt(world, step)
            offer(world, step)
    return tuple(
        step
        for step in call.payload
        if world.steps[step].claim == call.claim and world.steps[step].state == "enqueued"
    )


def lost_steps(world: World) -> Ids:
    """recover_steps.sql, before its locks: steps with an open attempt under a stopped worker."""
    return tuple(
        number
        for number, row in enumerate(world.steps)
        if row.open and row.state == "in_progress" and is_lost(world, row.worker)
    )


def is_lost(world: World, worker: int) -> bool:
    """Whether recover_steps.sql takes the worker for stopped: by its own row or its main's."""
    if world.case.without == "look at the main's row too":
        return worker == GONE or (worker >= 0 and world.children[worker].row == "stopped")
    return world.row_is_stopped(worker)


def recover_steps(world: World, seen: Ids) -> Ids:
    """recover_steps.sql, under its locks, with the re-check; answers what to publish."""
    without = world.case.without
    lost = seen if without == "re-check under the locks" else still(seen, lost_steps(world))
    charged = [
        step
        for step in lost
        if without == "losses counted only while alone"
        or (world.steps[step].alone and (without == "no charge in company" or not shares_claim(world, step)))
    ]
    for step in lost:
        row = world.steps[step]
        if row.state in FINAL:
            raise Broken(f"step {letter(step)} is {row.state} and was taken back")
        end_attempt(world, step)
        row.alone = without != "alone"
        row.losses = min(row.losses + (step in charged), world.case.max_losses)
        if step in charged and row.losses == world.case.max_losses:
            move(world, step, "error")
        else:
            offer(world, step)
    settle(world)
    return tuple(step for step in seen if world.steps[step].state == "enqueued")


def still(seen: Ids, now: Ids) -> Ids:
    """What a re-check leaves of what was seen."""
    return tuple(step for step in seen if step in now)


def shares_claim(world: World, step: int) -> bool:
    """claim_is_shared.sql: whether nobody can tell which step of a claim has begun."""
    row = world.steps[step]
    return any(
        other is not row and other.open and other.claim == row.claim and other.worker == row.worker
        for other in world.steps
    )


def time_out_step(world: World, step: int) -> Ids:
    """time_out_steps.sql, the coordinator's backstop: a failure, or of a shared claim another go, alone.
    Answers what to publish."""
    row = world.steps[step]
    if shares_claim(world, step):
        end_attempt(world, step)
        row.alone = True
        offer(world, step)
    else:
        record(world, step, row.claim, "failure")
    settle(world)
    return (step,) if row.state == "enqueued" else ()


def cancel_tasks(world: World) -> None:
    """cancel_tasks.sql."""
    for step, row in enumerate(world.steps):
        if row.state not in FINAL:
            end_attempt(world, step)
            move(world, step, "cancelled")
    move_task(world, "cancelled")


def skip_step(world: World, step: int) -> Ids:
    """skip_steps.sql; answers what to publish."""
    move(world, step, "skipped")
    return advanced_by_hand(world, step)


def resolve_step(world: World, step: int, to: str) -> Ids:
    """resolve_steps.sql: resolved_manually, or complete with a result; its own attempt fences the handler."""
    row = world.steps[step]
    end_attempt(world, step)
    row.claim = world.fresh_claim()
    row.done += to == "complete"
    move(world, step, to)
    return advanced_by_hand(world, step)


def advanced_by_hand(world: World, step: int) -> Ids:
    """advance_tasks.sql for an operator, who keeps nothing."""
    opened = advance(world, (step,))
    hold_back(world, opened)
    return tuple(it for it in opened if world.steps[it].state == "enqueued")


def retry_step(world: World, step: int) -> Ids:
    """retry_steps.sql; answers what to publish."""
    row = world.steps[step]
    row.failures, row.losses, row.alone = 0, 0, False
    if row.left:  # parked before its parents were done
        move(world, step, "pending")
    else:
        offer(world, step)
    settle(world)
    return (step,) if row.state == "enqueued" else ()


def fail_step(world: World, step: int) -> None:
    """park_by_hand.sql, and expire_steps.sql for a step that nobody began in time."""
    move(world, step, "error")
    settle(world)


def expire_tasks(world: World) -> None:
    """expire_tasks.sql: the deadline has passed, and what is active ends in error."""
    for step, row in enumerate(world.steps):
        if row.state in ACTIVE:
            end_attempt(world, step)
            move(world, step, "error")
    settle(world)


def rerun_step(world: World, step: int) -> Ids:
    """rerun: the one way out of final states. The step and its descendants are pending again, what they count
    is counted from the edges, and attempts under way end. Answers what to publish."""
    again, task = {step}, world.task
    for number, needed in enumerate(world.case.parents):  # parents come before their children
        if again.intersection(needed):
            again.add(number)
    for number in sorted(again):
        row = world.steps[number]
        end_attempt(world, number)
        row.state, row.claim, row.done = "pending", world.fresh_claim(), 0
        row.failures, row.losses, row.alone, row.excused = 0, 0, False, False
        row.left = len([it for it in world.case.parents[number] if world.steps[it].state not in SATISFYING])
    ready = tuple(it for it in sorted(again) if world.steps[it].left == 0)
    for number in ready:
        world.steps[number].state = "enqueued" if task.state != "paused" else "ready"
    states = [row.state for row in world.steps]
    task.open = len([state for state in states if state not in FINAL])
    task.active = len([state for state in states if state in ACTIVE])
    task.failed = states.count("error")
    if task.state != "paused":
        task.state = "in_progress" if task.active else "error"
    return tuple(it for it in ready if world.steps[it].state == "enqueued")
