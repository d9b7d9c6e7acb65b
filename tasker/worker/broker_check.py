"""What `tasker doctor` asks of the pipe: the broker, and the settings of the Celery app on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tasker.broker import SOCKET_OPTIONS, OwnCelery
from tasker.worker.process import POOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

KEEPS_MESSAGES = "noeviction"
CONNECT_SECONDS = 3


class Advice(NamedTuple):
    """Something about the pipe. `wrong` when steps can stall or be refused, else it only costs."""

    name: str
    wrong: bool
    text: str
    remedy: str


def broker_advice(app: Celery) -> Iterator[Advice]:
    """What is wrong with the broker of `app`, asked just now. Changes nothing, raises nothing."""
    try:
        with app.connection_for_write(transport_options=SOCKET_OPTIONS) as connection:
            connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, timeout=CONNECT_SECONDS
            )
            if connection.transport.driver_type == "redis":
                yield from _redis_advice(connection)
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        yield Advice(
            "broker_unreachable",
            wrong=True,
            text=f"the broker {app.connection_for_write().as_uri()} does not answer: {error}",
            remedy="start it, or correct TASKER_BROKER_URL; submitted tasks wait in the database meanwhile",
        )


def celery_advice(app: Celery) -> Iterator[Advice]:
    """Settings of an application's Celery app that refuse, hold back or slow down steps."""
    if isinstance(app, OwnCelery):
        return
    conf = app.conf
    if "json" not in conf.accept_content and "application/json" not in conf.accept_content:
        yield Advice(
            "celery_refuses_json",
            wrong=True,
            text=f"accept_content is {sorted(conf.accept_content)}: workers refuse the messages of steps",
            remedy='add "json" to accept_content',
        )
    if conf.worker_pool not in POOLS:
        yield Advice(
            "celery_pool",
            wrong=True,
            text=f"worker_pool is {conf.worker_pool}: a worker of this app does not start",
            remedy=f"use one of {', '.join(POOLS)}, for instance with --pool",
        )
    if conf.task_default_rate_limit:
        yield Advice(
            "celery_rate_limit",
            wrong=False,
            text=f"task_default_rate_limit is {conf.task_default_rate_limit}: it slows messages of steps too",
            remedy="set rate_limit on the tasks that need it instead",
        )
    if conf.worker_prefetch_multiplier != 1:
        yield Advice(
            "celery_prefetch",
            wrong=False,
            text=f"worker_prefetch_multiplier is {conf.worker_prefetch_multiplier}: a busy worker holds "
            "messages that an idle one could take",
            remedy="set it to 1, if your own tasks allow it",
        )


def _redis_advice(connection: Any) -> Iterator[Advice]:
    # INFO, since hosted Redis services forbid CONFIG GET
    policy = connection.default_channel.client.info("memory").get("maxmemory_policy", KEEPS_MESSAGES)
    if policy != KEEPS_MESSAGES:
        yield Advice(
            "redis_evicts",
            wrong=True,
            text=f"Redis may drop messages when its memory is full: maxmemory-policy is {policy}",
            remedy=f"set maxmemory-policy to {KEEPS_MESSAGES}",
        )
