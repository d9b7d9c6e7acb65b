"""A small world around one session: a broker that loses messages, workers that die, operators who meddle.

It remembers what was promised (messages handed out, attempts under way, results accepted), foresees what each
call has to answer, makes the call, and compares. `check` then looks at the database itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from tasker.domain.retry import Retry
from tasker.domain.states import ACTIVE, SATISFYING, STEP_MOVES, TASK_MOVES, TASK_SETTLED, allowed
from tasker.domain.templates import StepDefinition, TemplateDefinition
from tests.sql import actions
from tests.sql.protocol import (
    HANDLER,
    QUEUE,
    Attempt,
    Protocol,
    Reply,
    Row,
    Won,
    published,
    request,
)
from tests.sql.soundness import violations

RARE = "rare"
"""A handler that only some workers have."""

SLOW = "slow"
"""A second queue; every worker serves both."""

TWO_ATTEMPTS = Retry(max_attempts=2, backoff="exponential", base_seconds=1, jitter="none")

START_WITHIN = 100
DEADLINE = 200
"""Seconds, for some steps and some tasks."""

STARTED = ("in_progress", "paused", "error")

MAX_LOSSES = 2

ROUNDS = 200
"""More than any graph of 30 steps needs to come to rest."""


class Worker(NamedTuple):
    """A process that executes steps, and the handlers it has."""

    id: int
    handlers: tuple[str, ...]


class Running(NamedTuple):
    """An attempt under way, and who runs it."""

    attempt: Attempt
    worker: Worker


class Claim(NamedTuple):
    """A claim that was called, and the steps it won."""

    steps: Sequence[int]
    worker: Worker
    id: UUID
    won: set[int]


class Report(NamedTuple):
    """A finish that was called, and the steps it was refused."""

    outcomes: list[Row]
    worker: Worker
    claim_id: UUID
    keep: Row | None
    refused: list[int]


class World:
    """What has happened so far, as seen from outside the database."""

    def __init__(self, session: Protocol) -> None:
        self.session = session
        self.tasks: list[UUID] = []
        self.workers: list[Worker] = []
        self.dead: list[Worker] = []
        self.messages: list[int] = []
        self.lost: set[int] = set()
        self.running: dict[int, Running] = {}
        self.fenced: list[Attempt] = []
        self.results: dict[int, object] = {}
        self.claims: list[Claim] = []
        self.reports: list[Report] = []
        # two steps of the rare handler that are published fill a queue, and its gate closes
        session.expect(**{HANDLER: 1, RARE: 1000})
        self.start_worker((HANDLER, RARE))
        self.start_worker((HANDLER,))

    # Submitting and time

    def submit(self, parents: Sequence[Collection[int]], copies: int, *, delay: int, joined: bool) -> None:
        """Submit a graph, given as the parents of each step, `copies` times in one call."""
        steps = tuple(
            StepDefinition(
                name=f"s{number}",
                depends_on=tuple(f"s{parent}" for parent in sorted(needed)),
                handler=RARE if number % 7 == 3 else HANDLER,
                queue=SLOW if number % 5 == 2 else None,
                retry=TWO_ATTEMPTS,
                start_within_seconds=START_WITHIN if number % 6 == 4 else None,
            )
            for number, needed in enumerate(parents)
        )
        name = f"graph{len(self.tasks)}"
        self.session.store(TemplateDefinition(namespace="tests", name=name, version="1.0.0", steps=steps))
        first = len(self.tasks) + 1
        ids = [UUID(int=number) for number in range(first, first + copies)]
        requests = [
            request(
                name,
                id=task,
                run_after_ms=delay * 1000 or None,
                deadline_ms=DEADLINE * 1000 if task.int % 3 == 0 else None,
            )
            for task in ids
        ]
        reply = self.session.submit_all(requests, joined=joined)
        assert self.session.submit_all(requests, joined=joined)["publish"] == reply["publish"]
        self.tasks += [UUID(task["id"]) for task in reply["tasks"]]
        self.hand_out(reply)

    def pass_time(self, seconds: float) -> None:
        """Time goes by, and a coordinator makes its passes over what is due and what is held."""
        self.session.pass_time(seconds)
        self.hand_out(self.session.due())
        self.hand_out(self.session.dispatch())

    def hand_out(self, reply: Reply) -> None:
        """What a call asked to publish is now with the broker."""
        self.messages += published(reply)
        self.lost -= set(published(reply))

    def lose(self, messages: Iterable[int]) -> None:
        """The broker forgets messages."""
        for step in messages:
            self.messages.remove(step)
            self.lost.add(step)

    def republish(self, seconds: float) -> None:
        """Idle workers hear nothing from their queues, and a coordinator looks for lost messages."""
        for worker in self.workers:
            actions.beat(self.session, worker.id, free=1)
        self.session.pass_time(seconds)
        reply = actions.republish(self.session)
        self.hand_out(reply)
        actions.park(self.session, *reply["unclaimable"])

    # Workers

    def start_worker(self, handlers: tuple[str, ...]) -> None:
        """One more process that serves both queues."""
        number = self.session.register_worker(queues=[QUEUE, SLOW], handlers=handlers)
        self.workers.append(Worker(number, handlers))

    def deliver(self, steps: Sequence[int], worker: Worker) -> None:
        """A live worker claims steps; the reply is lost once, so it calls again."""
        claim = Claim(steps, worker, uuid4(), set())
        self.claims.append(claim)
        self.claim(claim)
        self.claim(claim)

    def claim(self, claim: Claim) -> None:
        """Call claim_steps: it wins what it may and has not won before; the answer is all that it holds."""
        rows = self.rows()
        wins = {step for step in claim.steps if may_win(rows[step], claim.worker)} - claim.won
        claim.won.update(wins)
        won = self.session.claim(*claim.steps, worker=claim.worker.id, claim_id=claim.id)
        self.begin([won.attempts[step] for step in sorted(wins)], claim.worker)
        assert won.attempts == {
            step: held.attempt for step, held in self.running.items() if held.attempt.claim_id == claim.id
        }

    def begin(self, attempts: Iterable[Attempt], worker: Worker) -> None:
        """The attempts are this worker's; each has the accepted results of its parents."""
        for attempt in attempts:
            assert attempt.step_id not in self.running
            parents = self.session.rows(
                "select p.id, p.name, p.state from tasker.step_edges e"
                " join tasker.steps p on p.id = e.parent_id where e.child_id = %s",
                [attempt.step_id],
            )
            assert {parent["state"] for parent in parents} <= SATISFYING
            accepted = {parent["name"]: self.results[parent["id"]] for parent in parents}
            assert (attempt.row["results"] or {}) == accepted
            self.running[attempt.step_id] = Running(attempt, worker)

    def finish(self, worker: Worker, outcomes: Sequence[tuple[Attempt, str]], keep: Row | None) -> None:
        """A worker reports how attempts ended, some long fenced off; the reply is lost once."""
        current = {attempt.step_id: kind for attempt, kind in outcomes if self.is_current(attempt)}
        refused = sorted({attempt.step_id for attempt, _ in outcomes if not self.is_current(attempt)})
        report = Report([outcome(*it) for it in outcomes], worker, uuid4(), keep, refused)
        first = self.send(report, keep)
        rows = self.rows()
        for step, kind in current.items():
            ended = self.running.pop(step).attempt
            assert rows[step]["state"] == state_after(ended, kind)
            if kind == "complete":
                self.results[step] = result_of(ended)
        for kept in first["kept"]:
            assert keep is not None
            assert (kept["queue"], rows[kept["id"]]["alone"]) == (keep["queue"], False)
            assert kept["handler"] in worker.handlers
        assert len(first["kept"]) <= (keep or {"max": 0})["max"]
        self.begin(self.attempts_of(first, report.claim_id), worker)
        self.hand_out(first)
        assert self.send(report, keep) == first
        self.reports.append(report)

    def send(self, report: Report, keep: Row | None) -> Reply:
        """Call finish_steps; it refuses exactly what is foreseen."""
        won = self.session.finish(
            report.outcomes, worker=report.worker.id, claim_id=report.claim_id, keep=keep
        )
        assert won.reply["refused"] == report.refused
        return won.reply

    def send_again(self, report: Report) -> None:
        """A report of long ago arrives once more, and moves nothing."""
        moves = self.session.row("select count(*) from tasker.transitions")
        reply = self.send(report, report.keep if report.worker in self.workers else None)
        assert self.session.row("select count(*) from tasker.transitions") == moves
        assert all(self.is_current(attempt) for attempt in self.attempts_of(reply, report.claim_id))
        self.hand_out(reply)

    def attempts_of(self, reply: Reply, claim_id: UUID) -> list[Attempt]:
        """What a finish kept."""
        return [Attempt(row, claim_id) for row in reply["kept"]]

    def is_current(self, attempt: Attempt) -> bool:
        """Whether the attempt is still the one under way."""
        running = self.running.get(attempt.step_id)
        return running is not None and running.attempt.row["attempt"] == attempt.row["attempt"]

    def release(self, steps: Sequence[int]) -> None:
        """Workers give back what they have not begun; each reply is lost once."""
        by_claim: dict[UUID, list[Row]] = {}
        for step in steps:
            attempt = self.running[step].attempt
            by_claim.setdefault(attempt.claim_id, []).append(attempt.row)
        self.fence(steps)
        for claim_id, rows in by_claim.items():
            won = Won({"steps": rows}, claim_id)
            reply = self.session.release(won)
            assert self.session.release(won) == reply
            self.hand_out(reply)

    def release_late(self, attempts: Sequence[Attempt]) -> None:
        """Somebody gives back what was taken from him, which moves nothing."""
        moves = self.session.row("select count(*) from tasker.transitions")
        for attempt in attempts:
            self.hand_out(self.session.release(Won({"steps": [attempt.row]}, attempt.claim_id)))
        assert self.session.row("select count(*) from tasker.transitions") == moves

    def stop(self, worker: Worker) -> None:
        """A worker dies, or is thought dead, and another starts in its place."""
        assert actions.stop(self.session, worker.id) == [worker.id]
        self.workers.remove(worker)
        self.dead.append(worker)
        self.start_worker(worker.handlers)

    def recover(self) -> None:
        """A coordinator takes back what dead workers held."""
        lost = [step for step, held in self.running.items() if held.worker in self.dead]
        shared, before = self.shared(), self.rows()
        reply = actions.recover(self.session, max_losses=MAX_LOSSES)
        assert reply["moved"] == len(lost)
        after = self.rows()
        for step in lost:
            losses = before[step]["losses"] + (before[step]["alone"] and step not in shared)
            assert (after[step]["losses"], after[step]["alone"]) == (losses, True)
            assert (after[step]["state"] == "error") == (losses >= MAX_LOSSES)
        self.fence(lost)
        self.hand_out(reply)

    def time_out(self, steps: Sequence[int]) -> None:
        """A coordinator ends attempts that are open beyond their time; nothing tells it so but the caller."""
        shared = self.shared()
        attempts = {step: self.running[step].attempt for step in steps}
        numbers = {step: attempt.row["attempt"] for step, attempt in attempts.items()}
        reply = actions.time_out(self.session, numbers)
        assert reply["moved"] == len(attempts)
        after = self.rows()
        for step, attempt in attempts.items():
            if step in shared:
                assert (after[step]["state"] in ("enqueued", "ready"), after[step]["alone"]) == (True, True)
            else:
                assert after[step]["state"] == state_after(attempt, "retry")
        self.fence(steps)
        assert actions.time_out(self.session, numbers)["moved"] == 0
        self.hand_out(reply)

    def expire(self) -> None:
        """A coordinator ends what nobody began in time and what is past its deadline; each call twice."""
        before, now = self.rows(), self.session.now
        unbegun = {
            step
            for step, row in before.items()
            if row["state"] in ("ready", "enqueued") and row["start_by"] and row["start_by"] <= now
        }
        assert actions.expire_steps(self.session)["moved"] == len(unbegun)
        assert actions.expire_steps(self.session)["moved"] == 0
        settled = {it for it in self.tasks if self.session.task(it)["state"] in TASK_SETTLED}
        late = {
            step
            for step, row in before.items()
            if row["deadline_at"] and row["deadline_at"] <= now and row["task_id"] not in settled
            if row["state"] in ACTIVE and row["task_state"] in STARTED
        }
        actions.expire_tasks(self.session)
        assert actions.expire_tasks(self.session)["moved"] == 0
        after = self.rows()
        assert {step for step in after if after[step]["state"] != before[step]["state"]} == late | unbegun
        assert {after[step]["state"] for step in late | unbegun} <= {"error"}
        self.fence(sorted(late))

    def shared(self) -> set[int]:
        """The steps under way whose claims have others under way: nobody knows which of them has begun."""
        claims = Counter(held.attempt.claim_id for held in self.running.values())
        return {step for step, held in self.running.items() if claims[held.attempt.claim_id] > 1}

    def fence(self, steps: Iterable[int]) -> None:
        """Somebody else has ended the attempts of these steps."""
        self.fenced += [self.running.pop(step).attempt for step in steps if step in self.running]

    # Operators

    def skip(self, steps: Sequence[int]) -> None:
        """skip_steps."""
        moved = self.operate(steps, "skip", lambda: actions.skip(self.session, *steps))
        self.results |= dict.fromkeys(moved)

    def resolve(self, steps: Sequence[int], results: Mapping[int, object] | None) -> None:
        """resolve_steps; running handlers of these steps are fenced off."""
        event = "resolve" if results is None else "complete_by_hand"
        moved = self.operate(steps, event, lambda: actions.resolve(self.session, *steps, results=results))
        self.fence(sorted(moved))
        self.results |= {step: (results or {}).get(step) for step in moved}

    def park(self, steps: Sequence[int]) -> None:
        """park_by_hand."""
        self.operate(
            steps, "park_by_hand", lambda: {"publish": [], **actions.park_by_hand(self.session, *steps)}
        )

    def retry(self, steps: Sequence[int]) -> None:
        """retry_steps."""
        self.operate(steps, "retry", lambda: actions.retry(self.session, *steps))

    def operate(self, steps: Sequence[int], event: str, call: Callable[[], Reply]) -> set[int]:
        """An operator's call moves the steps that the table of moves allows, in tasks that have started."""
        rows = self.rows()
        sources = allowed(STEP_MOVES, event)
        moved = {it for it in steps if rows[it]["state"] in sources and rows[it]["task_state"] in STARTED}
        reply = call()
        assert set(reply["moved"]) == moved
        self.hand_out(reply)
        again = call()
        assert (again["moved"], again["publish"]) == ([], reply["publish"])
        return moved

    def cancel(self, task: UUID) -> None:
        """cancel_tasks; running handlers of the task are fenced off."""
        moves = self.session.task(task)["state"] in allowed(TASK_MOVES, "cancel")
        assert actions.cancel(self.session, task)["moved"] == [str(task)] * moves
        self.fence(self.session.steps(task).values())

    def pause(self, task: UUID) -> None:
        """pause_tasks; the reply is lost once."""
        moves = self.session.task(task)["state"] in allowed(TASK_MOVES, "pause")
        assert actions.pause(self.session, task)["moved"] == [str(task)] * moves
        assert actions.pause(self.session, task)["moved"] == []

    def resume(self, task: UUID) -> None:
        """resume_tasks; the reply is lost once. A task in which nothing can run any more is then in error."""
        before = self.session.task(task)
        moves = before["state"] in allowed(TASK_MOVES, "resume")
        assert actions.resume(self.session, task)["moved"] == [str(task)] * moves
        if moves:
            state = "in_progress" if before["steps_active"] else "error"
            assert self.session.task(task)["state"] == state
            again = actions.resume(self.session, task)
            assert (again["moved"], again["refused"]) == ([], [])

    def pause_queue(self, queue: str) -> None:
        """pause_queues."""
        actions.pause_queues(self.session, queue)
        assert actions.pause_queues(self.session, queue)["moved"] == []

    def resume_queue(self, queue: str) -> None:
        """resume_queues."""
        actions.resume_queues(self.session, queue)
        assert actions.resume_queues(self.session, queue)["moved"] == []

    # What must hold

    def rows(self) -> dict[int, Row]:
        """All steps by id, with what decides who may move them."""
        found = self.session.rows(
            "select s.id, s.state, s.attempt, s.claim_id, s.losses, s.alone, s.parents_left, ts.handler,"
            " s.task_id, s.start_by, t.deadline_at, t.state as task_state, q.paused_at as queue_paused_at,"
            " (select count(*) from tasker.step_edges e"
            "  join tasker.steps p on p.id = e.parent_id and not p.state = any (%s)"
            "  where e.child_id = s.id) as parents_open"
            " from tasker.steps s join tasker.tasks t on t.id = s.task_id"
            " join tasker.queues q on q.name = s.queue"
            " join tasker.template_steps ts on ts.template_id = s.template_id and ts.ordinal = s.ordinal"
            " order by s.id",
            [sorted(SATISFYING)],
        )
        return {row["id"]: row for row in found}

    def check(self, *, by_the_product: bool = True) -> None:
        """The database is sound, by the product's own account too, and agrees with what was promised."""
        assert violations(self.session.connection) == {}
        if by_the_product:
            assert self.session.rows("select * from tasker.invariant_violations()") == []
        rows = self.rows()
        assert {step: row["parents_left"] for step, row in rows.items()} == {
            step: row["parents_open"] for step, row in rows.items()
        }
        enqueued = {step for step, row in rows.items() if row["state"] == "enqueued"}
        assert enqueued <= self.lost.union(self.messages), "enqueued, but nobody was told to publish it"
        assert {
            step: (row["attempt"], row["claim_id"])
            for step, row in rows.items()
            if row["state"] == "in_progress"
        } == {
            step: (held.attempt.row["attempt"], held.attempt.claim_id) for step, held in self.running.items()
        }

    def come_to_rest(self) -> None:
        """Everything held goes on, every message arrives, every handler succeeds: then all is settled."""
        for queue in (QUEUE, SLOW):
            self.resume_queue(queue)
            self.session.open_gate(queue)
        for task in self.tasks:
            self.resume(task)
        able = next(worker for worker in self.workers if RARE in worker.handlers)
        for _ in range(ROUNDS):
            self.recover()
            for worker in self.workers:
                held = [it.attempt for it in self.running.values() if it.worker == worker]
                self.finish(worker, [(attempt, "complete") for attempt in held], None)
            self.pass_time(60)
            self.deliver(self.messages, able)
            self.messages.clear()
            if not self.running:
                self.republish(200)
            if not ACTIVE.intersection(row["state"] for row in self.rows().values()):
                break
        self.check()
        left = {task: self.session.counters(task) for task in self.tasks}
        assert all(state in TASK_SETTLED for state, *_ in left.values()), left


def may_win(row: Row, worker: Worker) -> bool:
    """Whether the worker gets a step that it claims now."""
    return bool(
        row["state"] == "enqueued"
        and row["task_state"] == "in_progress"
        and row["queue_paused_at"] is None
        and row["handler"] in worker.handlers
    )


def state_after(attempt: Attempt, kind: str) -> str:
    """The state of a step whose attempt ended so."""
    if kind == "complete":
        return kind
    spent = attempt.row["failures"] + 1 >= attempt.row["max_attempts"]
    return "error" if spent or kind == "permanent" else "waiting_for_retry"


def result_of(attempt: Attempt) -> object:
    """What the handler returned in this attempt."""
    return {"step": attempt.step_id, "attempt": attempt.row["attempt"]}


def outcome(attempt: Attempt, kind: str) -> Row:
    """The outcome of an attempt: `complete`, `retry` or `permanent`."""
    if kind == "complete":
        return attempt.complete(result_of(attempt))
    return attempt.fail(permanent=kind == "permanent")
