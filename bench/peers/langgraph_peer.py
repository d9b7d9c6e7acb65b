"""LangGraph with its PostgreSQL saver, in two processes that invoke their graphs: it has no workers.

Steps are nodes, each with a key of the state of its own; a fan is a map by Send
(https://docs.langchain.com/oss/python/langgraph/graph-api). Of the modes that keep every step, `async` is the
quicker one: a step's state is written while the next one runs
(https://docs.langchain.com/oss/python/langgraph/durable-execution). Many inputs go through `batch`, and the
saver has a pool of connections (https://pypi.org/project/langgraph-checkpoint-postgres).
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Annotated, Any, TypedDict
from uuid import uuid4

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from bench.peers.pair import Pair, Ran, Work
from bench.peers.peer import Run
from bench.servers import Servers
from bench.shapes import Shape, number_of, step_result

POOL = 8
DURABILITY = "async"


class LangGraphPeer:
    """A graph ends when `invoke` or `batch` returns."""

    name = "LangGraph"
    how = f"two processes, invoked in process, durability {DURABILITY}; PostgresSaver"

    def cannot(self, shape: Shape) -> str | None:  # noqa: ARG002 - it can run all of them
        """Nothing."""
        return None

    def start(self, servers: Servers) -> None:
        """As Peer."""
        self._pair = Pair("langgraph", program, servers)

    def run(self, shape: Shape, count: int, *, singly: bool = False) -> Run:  # noqa: ARG002 - always together
        """As Peer."""
        return self._pair.run(shape, count)

    def stop(self) -> None:
        """As Peer."""
        self._pair.stop()


class Fan(TypedDict):
    """The state of a fan."""

    context: dict[str, Any]
    first: Any
    middle: Annotated[list[Any], operator.add]
    last: Any


@contextmanager
def program(url: str, number: int) -> Iterator[Work]:  # noqa: ARG001 - both are alike
    """One of the processes."""
    how = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool(url, min_size=POOL, max_size=POOL, kwargs=how) as pool:
        saver = PostgresSaver(pool)
        saver.setup()
        compiled = cache(lambda shape: _graph(shape).compile(checkpointer=saver))
        yield partial(_work, compiled)


def _work(compiled: Callable[[Shape], Any], shape: Shape, count: int) -> Ran:
    graph = compiled(shape)
    inputs = [{"context": shape.context}] * count
    configs = [
        {"configurable": {"thread_id": str(uuid4())}, "max_concurrency": POOL, "recursion_limit": 100}
        for _ in inputs
    ]
    states = graph.batch(inputs, configs, durability=DURABILITY)
    return Ran([number_of(state[shape.last]) for state in states], None, time.time())


def _graph(shape: Shape) -> StateGraph[Any]:
    return _fan(shape) if shape.name.startswith("fan") else _nodes(shape)


def _nodes(shape: Shape) -> StateGraph[Any]:
    keys = {"context": dict[str, Any], **dict.fromkeys(shape.parents, Any)}
    graph = StateGraph(TypedDict(shape.name, keys))  # type: ignore[operator]  # a state for each shape
    for step, parents in shape.parents.items():
        graph.add_node(f"run-{step}", partial(_step, shape, step, parents))
        graph.add_edge([f"run-{parent}" for parent in parents] or START, f"run-{step}")
    graph.add_edge(f"run-{shape.last}", END)
    return graph


def _step(shape: Shape, step: str, parents: tuple[str, ...], state: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [state[parent] for parent in parents]
    return {step: step_result(inputs, shape.milliseconds, shape.heavy)}


def _fan(shape: Shape) -> StateGraph[Any]:
    width = len(shape.parents) - 2
    graph = StateGraph(Fan)
    graph.add_node("run-first", lambda _: {"first": step_result([])})
    graph.add_node("run-middle", lambda sent: {"middle": [step_result([sent["first"]])]})
    graph.add_node("run-last", lambda state: {"last": step_result(state["middle"])})
    graph.add_edge(START, "run-first")
    graph.add_conditional_edges(
        "run-first", lambda state: [Send("run-middle", {"first": state["first"]})] * width, ["run-middle"]
    )
    graph.add_edge("run-middle", "run-last")
    graph.add_edge("run-last", END)
    return graph
