"""What only Tasker is asked: how many statements its worker sends, and how long a wide submit takes."""

from __future__ import annotations

from bench.peers.tasker import TaskerPeer
from bench.servers import Servers
from bench.shapes import DIAMOND, FAN_500, FAN_10000, LINEAR
from bench.statements import COUNTER, counted_so_far

COUNTED = ((LINEAR, 200, 1), (LINEAR, 1, 1000), (DIAMOND, 1, 1000), (FAN_500, 4, 1))
"""Shapes, with how often they run and how many tasks at a time."""


def own_figures(servers: Servers) -> dict[str, float]:
    """The figures by name, of a worker of its own."""
    path = servers.folder / "statements"
    path.touch()
    peer = TaskerPeer(**{COUNTER: str(path)})
    found = {}
    peer.start(servers)
    try:
        for shape, times, tasks in COUNTED:
            peer.run(shape, 20 if tasks > 1 else 1)
            before = counted_so_far(path)
            for _ in range(times):
                peer.run(shape, tasks)
            each = (counted_so_far(path) - before) / (len(shape.parents) * times * tasks)
            found[f"statements of the worker for each step of {shape.name}, {tasks} at a time"] = each
        steps = f"{len(FAN_10000.parents):,}".replace(",", " ")
        found[f"submit of a task of {steps} steps, s"] = peer.creation_seconds(FAN_10000)
    finally:
        peer.stop()
    return found
