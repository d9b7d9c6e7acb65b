"""Who is whose child, and who is still alive."""

from __future__ import annotations

from pathlib import Path


def process_table() -> dict[int, tuple[int, str]]:
    """Parent and state of every process."""
    table = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        table[int(entry.parent.name)] = (int(parent), state)
    return table


def program_of(pid: int) -> str:
    """The name of the program that a process runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def children(pid: int) -> set[int]:
    """Those that have not ended, or that nobody has waited for."""
    return {child for child, (parent, _) in process_table().items() if parent == pid}


def descendants(pid: int) -> set[int]:
    """Children, their children, and so on."""
    table = process_table()
    found: set[int] = set()
    generation = {pid}
    while generation:
        generation = {child for child, (parent, _) in table.items() if parent in generation}
        found |= generation
    return found


def living(pids: set[int]) -> set[int]:
    """A process nobody has waited for is dead all the same."""
    return {pid for pid, (_, state) in process_table().items() if pid in pids and state != "Z"}
