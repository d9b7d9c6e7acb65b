"""All sides, and which of them this environment lacks."""

from __future__ import annotations

from importlib import import_module

from bench.peers.canvas import CanvasPeer
from bench.peers.peer import Peer
from bench.peers.tasker import TaskerPeer

OTHERS: dict[str, tuple[str, str]] = {}
"""Side: its module here and its class. Their packages are those of the extra `bench`."""

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
    absent = {}
    for name, (module, cls) in OTHERS.items():
        try:
            found.append(getattr(import_module(f"bench.peers.{module}"), cls)())
        except ImportError as error:
            absent[name] = f"not installed here: {error}"
    return found, absent
