"""All sides, and which of them this environment lacks."""

from __future__ import annotations

from importlib import import_module

from bench.peers.canvas import CanvasPeer
from bench.peers.peer import Peer
from bench.peers.tasker import TaskerPeer

OTHERS = {
    "Absurd": "absurd_peer:AbsurdPeer",
    "DBOS": "dbos_peer:DbosPeer",
    "DBOS by a queue": "dbos_peer:DbosQueuePeer",
    "LangGraph": "langgraph_peer:LangGraphPeer",
    "Prefect": "prefect_peer:PrefectPeer",
}
"""Side: its module here and its class. Their packages are those of the extra `bench`."""

NOT_HERE = {"Oban": "not measured: it needs Python 3.12, and graphs are part of its paid edition alone"}

PACKAGES = (
    "tasker-engine",
    "celery",
    "kombu",
    "redis",
    "psycopg",
    "dbos",
    "absurd-sdk",
    "langgraph",
    "prefect",
)


def sides() -> tuple[list[Peer], dict[str, str]]:
    """Those that can run, and by name why the others cannot."""
    found: list[Peer] = [TaskerPeer(), CanvasPeer(results=False), CanvasPeer(results=True)]
    absent = dict(NOT_HERE)
    for name, place in OTHERS.items():
        module, _, side = place.partition(":")
        try:
            found.append(getattr(import_module(f"bench.peers.{module}"), side)())
        except ImportError as error:
            absent[name] = f"not installed here: {error}"
    return found, absent
