"""The same chain of four steps that do nothing, for Tasker and for Celery's canvas."""

from __future__ import annotations

import os
import time
from urllib.parse import unquote, urlsplit

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
    """The next number."""
    return one + 1


@linear.step
def three(two: int) -> int:
    """The next number."""
    return two + 1


@linear.step
def four(three: int) -> int:
    """The next number."""
    return three + 1


wide = TaskTemplate("bench/wide", version="1.0.0")
for index in range(10_000):
    wide.add_step(
        one, name=f"step-{index}", handler="bench/wide.step", depends_on=["step-0"] if index else []
    )


def redis_at(url: str) -> redis.Redis:
    """A client of a broker named in Celery's notation."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return redis.Redis(unix_socket_path=unquote(parts.path))
    return redis.Redis.from_url(url)


broker = os.environ["TASKER_BROKER_URL"]
ends = redis_at(broker)

tasker_app = Celery("bench-tasker", broker=broker)
tasker_app.conf.task_default_queue = "bench-tasker"
tasker = Tasker(celery=tasker_app)

canvas_app = Celery("bench-canvas", broker=broker)
canvas_app.conf.update(task_ignore_result=True, task_default_queue="bench-canvas")

results_app = Celery("bench-results", broker=broker, backend=broker)
results_app.conf.update(task_default_queue="bench-results")


def first() -> int:
    """The first number."""
    return 1


def more(number: int) -> int:
    """The next number."""
    return number + 1


def last(number: int) -> int:
    """The next number; notes the time at which the chain came to it."""
    ends.rpush("bench-ends", time.time())
    return number + 1


for canvas in (canvas_app, results_app):
    for function in (first, more, last):
        canvas.task(function, name=f"bench.{function.__name__}")


def chain_of_four(app: Celery) -> Signature:
    """The canvas of the four tasks of an app."""
    begin, go_on, end = (app.tasks[f"bench.{name}"] for name in ("first", "more", "last"))
    return chain(begin.s(), go_on.s(), go_on.s(), end.s())
