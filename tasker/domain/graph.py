"""Questions about a dependency graph, given as each step's parents. All are linear in its edges.

A parent that is not a step of the graph is ignored here; `templates.check` reports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker.domain.states import StepState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLOURS = {
    StepState.PENDING: "#eceff1",
    StepState.READY: "#e3f2fd",
    StepState.ENQUEUED: "#bbdefb",
    StepState.IN_PROGRESS: "#ffe082",
    StepState.WAITING_FOR_RETRY: "#ffcc80",
    StepState.WAITING: "#d1c4e9",
    StepState.COMPLETE: "#c8e6c9",
    StepState.SKIPPED: "#dcedc8",
    StepState.ERROR: "#ffcdd2",
    StepState.CANCELLED: "#cfd8dc",
    StepState.RESOLVED_MANUALLY: "#dcedc8",
}


def levels(parents: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The steps by their longest way from a root, each level in the graph's order.

    Steps on a cycle, and those behind one, are on no level.
    """
    level = _levels(parents)
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for name in parents:
        if name in level:
            rows[level[name]].append(name)
    return rows


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle in the direction of the work, its first step repeated at the end; empty when none."""
    level = _levels(parents)
    stuck = {name for name in parents if name not in level}
    if not stuck:
        return []
    # Whatever is stuck has a stuck parent, so the way up must come back to a step it has passed.
    name = next(name for name in parents if name in stuck)
    passed: dict[str, int] = {}
    while name not in passed:
        passed[name] = len(passed)
        name = next(parent for parent in parents[name] if parent in stuck)
    loop = list(passed)[passed[name] :]
    return [name, *reversed(loop)]


def mermaid(parents: Mapping[str, Sequence[str]], states: Mapping[str, str] | None = None) -> str:
    """A Mermaid flowchart; with `states` (step name to state) each node shows and wears its state."""
    ids = {name: f"s{ordinal}" for ordinal, name in enumerate(parents)}
    shown = {name: StepState(states[name]) for name in ids if name in states} if states else {}
    lines = ["flowchart TD"]
    for name, node in ids.items():
        label = f"{name}<br/>{shown[name]}" if name in shown else name
        lines.append(f'    {node}["{label}"]')
    for name, above in parents.items():
        lines += [f"    {ids[parent]} --> {ids[name]}" for parent in above if parent in ids]
    for state in dict.fromkeys(shown.values()):
        nodes = ",".join(ids[name] for name in shown if shown[name] is state)
        lines.append(f"    classDef {state} fill:{_COLOURS[state]},stroke:#455a64,color:#212121")
        lines.append(f"    class {nodes} {state}")
    return "\n".join(lines) + "\n"


def _levels(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Kahn's algorithm: the level of every step that is reached from the roots."""
    children: dict[str, list[str]] = {name: [] for name in parents}
    waits: dict[str, int] = {}
    for name, above in parents.items():
        known = {parent for parent in above if parent in children}
        waits[name] = len(known)
        for parent in known:
            children[parent].append(name)
    level = {name: 0 for name, count in waits.items() if not count}
    reached = list(level)
    for name in reached:
        for child in children[name]:
            waits[child] -= 1
            if not waits[child]:
                level[child] = level[name] + 1
                reached.append(child)
    return level
