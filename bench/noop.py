"""The same chain of four steps that do nothing, for Tasker and for Celery's canvas."""

from __future__ import annotations

import os
import time

import redis
from celery import Celery, Signature, chain

from tasker import Tasker, TaskTemplate

linear = TaskTemplate("bench/linear-4", version="1.0.0")


@linear.step
def one() -> int:
    """The first number."""
    return 1


@linear.step
def two(one: int) -> int:
    """One more."""
    return one + 1


@linear.step
def three(two: int) -> int:
    """One more."""
    return two + 1


@linear.step
def four(three: int) -> int:
    """One more."""
    return three + 1


wide = TaskTemplate("bench/wide", version="1.0.0")
for index in range(10_000):
    wide.add_step(
        one, name=f"step-{index}", handler="bench/wide.step", depends_on=["step-0"] if index else []
    )

broker = os.environ["TASKER_BROKER_URL"]
tasker_app = Celery("bench-tasker", broker=broker)
tasker_app.conf.task_default_queue = "bench-tasker"
Tasker(celery=tasker_app)

canvas_app = Celery("bench-canvas", broker=broker)
canvas_app.conf.update(task_ignore_result=True, task_default_queue="bench-canvas")
ends = (
    redis.Redis(unix_socket_path=broker.split("://")[1].split("?")[0])
    if "socket" in broker
    else redis.Redis.from_url(broker)
)


@canvas_app.task
def canvas_one() -> int:
    """The first number."""
    return 1


@canvas_app.task
def canvas_two(one: int) -> int:
    """One more."""
    return one + 1


@canvas_app.task
def canvas_three(two: int) -> int:
    """One more."""
    return two + 1


@canvas_app.task
def canvas_four(three: int) -> int:
    """One more, and the time at which the chain ended."""
    ends.rpush("bench-ends", time.time())
    return three + 1


def chain_of_four() -> Signature:
    """The canvas of the four tasks."""
    return chain(canvas_one.s(), canvas_two.s(), canvas_three.s(), canvas_four.s())
