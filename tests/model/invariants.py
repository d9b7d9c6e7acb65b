"""What must hold in every state, in words and as a question."""

from __future__ import annotations

from collections.abc import Callable

from tests.model.world import ACTIVE, FINAL, SATISFYING, SETTLED, World


def parents_left(world: World) -> bool:
    """parents_left of a pending step counts its open parents, and there is one"""
    return all(
        row.left == len([it for it in needed if world.steps[it].state not in SATISFYING]) > 0
        for row, needed in zip(world.steps, world.case.parents, strict=True)
        if row.state == "pending"
    )


def counters(world: World) -> bool:
    """the counters of the task agree with its steps"""
    states = [row.state for row in world.steps]
    made = (
        len([state for state in states if state not in FINAL]),
        len([state for state in states if state in ACTIVE]),
        states.count("error"),
    )
    return (world.task.open, world.task.active, world.task.failed) == made


def settled(world: World) -> bool:
    """the task is settled exactly when nothing of it can run"""
    task = world.task
    if task.state == "in_progress":
        return task.active > 0
    if task.state == "error":
        return task.active == 0 and task.failed > 0
    return task.state == "paused" or task.open == 0


def one_attempt(world: World) -> bool:
    """a step has one open attempt exactly while it is in progress"""
    return all(row.open == (row.state == "in_progress") for row in world.steps)


def parents_first(world: World) -> bool:
    """a step is active only when all its parents are complete, skipped or resolved"""
    return all(
        world.steps[it].state in SATISFYING
        for row, needed in zip(world.steps, world.case.parents, strict=True)
        if row.state in ACTIVE
        for it in needed
    )


def completed_once(world: World) -> bool:
    """a step is complete exactly when one attempt of it, and no other, is recorded as complete"""
    return all(row.done == (row.state == "complete") for row in world.steps)


def somebody_works(world: World) -> bool:
    """a step in progress is held by a live process, or its worker is gone or stopped, or its limit ends it"""
    for number, row in enumerate(world.steps):
        if row.state != "in_progress" or row.unheard or world.row_is_stopped(row.worker):
            continue
        child = world.children[row.worker]
        held = (number, row.claim)
        own = (*child.unbegun, child.running, *(it[:2] for it in child.finished))
        if child.life != "dead" and held not in own and not any(
            call.heard
            and (
                (call.claim == row.claim and number in world.tells(call))
                or (call.claim == row.claim and call.kind == "release" and number in call.payload)
                or (call.kind == "finish" and any(it[:2] == held for it in call.payload))
            )
            for call in world.calls
        ):  # fmt: skip
            return False
    return True


def message_out(world: World) -> bool:
    """an enqueued step has a message out, or somebody about to send it, unless a fault has cost it that"""
    return all(
        row.state != "enqueued" or row.excused or world.will_be_published(number)
        for number, row in enumerate(world.steps)
    )


def innocent(world: World) -> bool:
    """a step that kills nobody is not charged for a neighbour that does"""
    poison = world.case.poison
    return not poison or all(row.losses == 0 or it in poison for it, row in enumerate(world.steps))


RULES: tuple[Callable[[World], bool], ...] = (
    parents_left,
    counters,
    settled,
    one_attempt,
    parents_first,
    completed_once,
    somebody_works,
    message_out,
    innocent,
)


def violated(world: World) -> str | None:
    """The first rule that does not hold, in its words."""
    for rule in RULES:
        if not rule(world):
            return f"not so: {rule.__doc__}"
    return None


def is_settled(state: str, *_counters: int) -> bool:
    """Whether a task is where nothing of it can run by itself."""
    return state in SETTLED
