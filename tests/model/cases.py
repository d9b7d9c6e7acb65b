"""What is explored: cases in which nothing may go wrong, and broken rules that must each be noticed."""

from __future__ import annotations

from dataclasses import replace

from tests.model.world import Case

ONE = ((),)
TWO_ROOTS = ((), ())
CHAIN = ((), (0,))
LONG_CHAIN = ((), (0,), (1,))
JOIN = ((), (), (0, 1))
DIAMOND = ((), (0,), (0,), (1, 2))

LINES = frozenset({"lose", "double", "act_unanswered", "call_again", "check_first"})
"""What brokers and connections do: messages lost and doubled; answers lost; calls that arrive late, or wait
between their first look and their locks."""
OPERATORS = frozenset({"cancel", "pause", "skip", "resolve", "retry", "rerun", "park_by_hand"})
LIMITS = frozenset({"miss_start", "pass_deadline"})

CASES = (
    Case("chain, any two faults", CHAIN, faults=LINES | {"crash", "fail"}, budget=2),
    Case("chain of three, any two faults", LONG_CHAIN, faults=LINES | {"crash", "fail"}, budget=2),
    Case("two roots, one child", JOIN, faults=frozenset({"call_again", "act_unanswered", "crash"}), budget=2),
    Case("diamond", DIAMOND, faults=frozenset({"lose", "crash", "fail"}), budget=2),
    Case(
        "mains that pause and die",
        CHAIN,
        mains=(0, 1),
        faults=frozenset({"pause_main", "crash_main", "stop_main_only", "check_first", "call_again"}),
        budget=2,
    ),
    Case("handlers that kill", JOIN, batched=True, poison=(0,), faults=LINES - {"check_first"}, budget=1),
    Case(
        "steps that share a message",
        TWO_ROOTS,
        batched=True,
        faults=frozenset({"crash", "call_again"}),
        budget=2,
    ),
    Case(
        "operators",
        CHAIN,
        operators=OPERATORS | LIMITS,
        meddles=2,
        faults=frozenset({"fail", "act_unanswered", "crash"}),
        budget=1,
    ),
    Case(
        "operators, two roots",
        JOIN,
        operators=OPERATORS | LIMITS,
        meddles=1,
        faults=frozenset({"fail"}),
        budget=1,
        max_attempts=1,
    ),
    Case("handlers that hang", CHAIN, faults=LINES | {"hang"}, budget=2),
    Case(
        "a gate that closes and opens",
        DIAMOND,
        operators=frozenset({"close_gate"}),
        meddles=2,
        faults=frozenset({"act_unanswered", "crash", "fail"}),
        budget=1,
    ),
)

SMALL_CASES = tuple(
    replace(case, budget=0 if case.meddles > 1 else min(case.budget, 1), meddles=min(case.meddles, 1))
    for case in CASES
)
"""The same with one fault, or one operator."""

BROKEN = (
    Case("one attempt runs in two children", CHAIN, faults=frozenset({"double"}), budget=1,
         without="claim id in the fence"),
    Case("a late outcome is recorded", CHAIN, mains=(0, 1), faults=frozenset({"pause_main"}), budget=1,
         without="fence of late outcomes"),
    Case("a lost message", CHAIN, faults=frozenset({"lose"}), budget=1, without="republisher"),
    Case("two parents finish together", JOIN, without="lock before the look"),
    Case("two parents finish together", JOIN, without="waiting for locks"),
    Case("a message arrives before its step", CHAIN, without="commit before publish"),
    Case("a handler that kills", TWO_ROOTS, batched=True, poison=(0,), without="alone"),
    Case("a handler that kills", TWO_ROOTS, batched=True, poison=(0,),
         without="losses counted only while alone"),
    Case("a handler that kills", TWO_ROOTS, batched=True, poison=(0,), faults=frozenset({"double"}), budget=1,
         without="no charge in company"),
    Case("a main that pauses", CHAIN, mains=(0, 1), faults=frozenset({"pause_main"}), budget=1,
         without="compare-and-swap on beats"),
    Case("a finish beside recovery", CHAIN, mains=(0, 1), faults=frozenset({"pause_main"}), budget=1,
         without="re-check under the locks"),
    Case("a claim beside recovery", ONE, faults=frozenset({"crash", "check_first"}), budget=2,
         without="recovery that looks again"),
    Case("a child that registers while its main is stopped", ONE, mains=(0,),
         faults=frozenset({"crash_main", "stop_main_only"}), budget=2, without="look at the main's row too"),
    Case("a claim that arrives twice", CHAIN, faults=frozenset({"call_again", "fail"}), budget=2,
         without="one win for each claim id"),
    Case("a claim that arrives late", ONE, faults=frozenset({"double", "call_again", "fail"}), budget=3,
         without="time limits"),
    Case("an answer is lost", CHAIN, faults=frozenset({"act_unanswered"}), budget=1,
         without="answers are read from the state"),
    Case("a gate that opens too early", CHAIN, operators=frozenset({"close_gate"}), meddles=1,
         without="dispatch behind an open gate"),
    Case("a finish that is repeated", JOIN, faults=frozenset({"act_unanswered"}), budget=1,
         without="finish that is safe to repeat"),
)  # fmt: skip
"""Each breaks the rule named in `without`."""
