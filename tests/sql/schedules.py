"""Calls of several sessions, interleaved statement by statement, in every order that matters.

From outside, a function is one statement. So the functions of this database are the product's with stops in
them: after each statement that reads or writes a table, `tests.stop()` waits for an advisory lock that the
stage holds. The stage lets one session at a time go on to its next stop; one that waits for another's row is
left to wait until it gets it.

An order in which a session is interrupted though it could have gone on costs a switch. All orders with so
many switches at most are played; few are enough for most faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import NamedTuple, TypeAlias

import pytest

from tasker.domain.packaged import packaged_folder
from tests.sql.protocol import Connection, Protocol

Call: TypeAlias = Callable[[], object]

STOP = " if tests.stop() then end if;"
"""Leaves `found` as it is, as `perform` does not."""

SECONDS_TO_STOP = 10.0

INSTALL = """
create schema tests;
create function tests.stop() returns boolean language plpgsql volatile as $$
declare
    v_actor constant integer := nullif(current_setting('tests.actor', true), '')::integer;
    v_number integer;
begin
    if v_actor is not null then
        v_number := current_setting('tests.stops')::integer + 1;
        perform set_config('tests.stops', v_number::text, false);
        perform pg_advisory_xact_lock(v_actor, v_number);
    end if;
    return true;
end
$$;
"""

WAITING = """
select pid, objid, case when locktype <> 'advisory' then pg_blocking_pids(pid) end
from pg_locks
where pid = any (%s) and not granted
"""

TABLE = re.compile(r"\b(?:from|join|update|into) tasker\.\w+\b(?! *\()|assert_worker")
TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|;")


class Decision(NamedTuple):
    """Which actors could have gone on, and which one did."""

    could: Sequence[int]
    did: int


def with_stops(text: str) -> str:
    """The source of a PL/pgSQL function with a stop after each statement that reads or writes a table."""
    declared, begin, body = text.partition("\nbegin\n")
    done, statement = [declared, begin], 0
    for token in TOKEN.finditer(body):
        if token[0] == ";":
            part = body[statement : token.end()]
            done.append(part + (STOP if TABLE.search(part) else ""))
            statement = token.end()
    return "".join(done) + body[statement:]


class Stage:
    """Sessions of one database whose functions stop, and who lets them go on."""

    def __init__(self, connect: Callable[[], Connection], threads: ThreadPoolExecutor, actors: int) -> None:
        self._connection = connect()
        self._threads = threads
        self._connection.execute(INSTALL)
        for path in sorted((packaged_folder("sql") / "functions").glob("*.sql")):
            text = path.read_text()
            if "language plpgsql\nvolatile" in text:
                self._connection.execute(with_stops(text))
        self.host = Protocol(connect())
        self.actors = [Protocol(connect()) for _ in range(actors)]
        self._pids = [actor.connection.info.backend_pid for actor in self.actors]

    def play(self, calls: Sequence[Call], first: Sequence[int]) -> tuple[list[Decision], list[object]]:
        """Start a call for each actor; let those of `first` go on in that order, and then whoever can, for as
        long as he can. Returns the decisions and the answers."""
        running = [self._start(number, call) for number, call in enumerate(calls)]
        granted, decisions = [0] * len(calls), list[Decision]()
        while could := self._stopped(running, granted):
            did = decisions[-1].did if decisions else 0
            if len(decisions) < len(first):
                did = first[len(decisions)]
            elif did not in could:
                did = could[0]
            assert did in could, "the same beginning has gone on otherwise before"
            decisions.append(Decision(could, did))
            granted[did] += 1
            self._hold(did, granted[did] + 1)
            self._connection.execute("select pg_advisory_unlock(%s, %s)", [did, granted[did]])
        self._connection.execute("select pg_advisory_unlock_all()")
        return decisions, [call.result() for call in running]

    def _hold(self, actor: int, stop: int) -> None:
        self._connection.execute("select pg_advisory_lock(%s, %s)", [actor, stop])

    def _start(self, number: int, call: Call) -> Future[object]:
        connection = self.actors[number].connection
        self._hold(number, 1)

        def act() -> object:
            connection.execute("select set_config('tests.stops', '0', false)")
            connection.execute("select set_config('tests.actor', %s, false)", [str(number)])
            connection.execute("select tests.stop()")
            try:
                return call()
            finally:
                connection.execute("select set_config('tests.actor', '', false)")

        return self._threads.submit(act)

    def _stopped(self, running: Sequence[Future[object]], granted: Sequence[int]) -> list[int]:
        """The actors at a stop, once each is at one or waits for another or is done; none if all are done."""
        deadline = monotonic() + SECONDS_TO_STOP
        while monotonic() < deadline:
            going = [number for number, call in enumerate(running) if not call.done()]
            pids = {self._pids[number]: number for number in going}
            at_stop, behind = set[int](), set[int]()
            for pid, stop, blockers in self._connection.execute(WAITING, [list(pids)]).fetchall():
                if blockers is None and stop == granted[pids[pid]] + 1:
                    at_stop.add(pids[pid])
                elif blockers is not None and not pids.keys().isdisjoint(blockers):
                    behind.add(pids[pid])
            if at_stop | behind == set(going) and (at_stop or not going):
                return sorted(at_stop)
            wait([running[number] for number in going], timeout=0.0005)
        pytest.fail(f"the sessions came to no stop; waiting for rows: {behind}")


def explore(
    stage: Stage,
    scene: Callable[[Stage], Sequence[Call]],
    check: Callable[[list[object]], None],
    *,
    switches: int,
) -> int:
    """Play a scene in all orders with so many switches at most, and check what each leads to; how many."""
    ahead: list[list[int]] = [[]]
    played = 0
    while ahead:
        first = ahead.pop()
        decisions, answers = stage.play(scene(stage), first)
        try:
            check(answers)
        except AssertionError as error:
            error.add_note(f"in the order {[decision.did for decision in decisions]}")
            raise
        played += 1
        for place in range(len(first), len(decisions)):
            done = [decision.did for decision in decisions[:place]]
            ahead += [
                [*done, other]
                for other in decisions[place].could
                if other != decisions[place].did and cost(decisions, [*done, other]) <= switches
            ]
    return played


def cost(decisions: Sequence[Decision], order: Sequence[int]) -> int:
    """How often the order interrupts a session that could go on."""
    return sum(
        before != after and before in decision.could
        for before, after, decision in zip(order, order[1:], decisions[1:], strict=False)
    )
