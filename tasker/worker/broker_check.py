"""What `tasker doctor` asks of the pipe: the broker, and the settings of the Celery app on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasker.broker import SOCKET_OPTIONS, OwnCelery
from tasker.orchestration.doctor import Finding
from tasker.worker.process import POOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

KEEPS_MESSAGES = "noeviction"
CONNECT_SECONDS = 3
FEW_TASKS_PER_CHILD = 100


def broker_checks(app: Celery) -> list[Finding]:
    """How the broker of `app` stands, asked just now. Changes nothing; raises nothing."""
    address = _address(app)
    try:
        with app.connection_for_write(transport_options=SOCKET_OPTIONS) as connection:
            connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, timeout=CONNECT_SECONDS
            )
            on_redis = connection.transport.driver_type == "redis"
            memory = [_redis_memory(connection)] if on_redis else []
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        return [
            Finding(
                "broker",
                ok=False,
                text=f"the broker {address} does not answer: {error}",
                remedy="start it, or correct TASKER_BROKER_URL; steps wait in the database meanwhile",
            )
        ]
    return [Finding("broker", ok=True, text=f"the broker {address} answers"), *memory]


def celery_checks(app: Celery) -> Iterator[Finding]:
    """Settings of an application's Celery app that refuse steps, or (as advice) hold them back."""
    conf = app.conf
    if isinstance(app, OwnCelery):
        return
    if not {"json", "application/json"} & set(conf.accept_content):
        yield Finding(
            "celery",
            ok=False,
            text=f"accept_content is {', '.join(conf.accept_content)}: workers refuse the messages of steps",
            remedy='add "json" to accept_content',
        )
    if conf.worker_pool not in POOLS:
        yield Finding(
            "celery",
            ok=False,
            text=f"worker_pool is {conf.worker_pool}: a worker of this app does not start",
            remedy=f"use one of {', '.join(POOLS)}, for instance with --pool",
        )
    if conf.task_default_rate_limit:
        yield Finding(
            "celery",
            ok=True,
            text=f"task_default_rate_limit is {conf.task_default_rate_limit}, for messages of steps too",
            remedy="set rate_limit on the tasks that need it instead",
        )
    if conf.worker_prefetch_multiplier != 1:
        yield Finding(
            "celery",
            ok=True,
            text=f"worker_prefetch_multiplier is {conf.worker_prefetch_multiplier}: a busy worker holds "
            "messages that an idle one could take",
            remedy="set it to 1, if your own tasks allow it",
        )
    if conf.worker_send_task_events:
        yield Finding(
            "celery",
            ok=True,
            text="worker_send_task_events is on: three more messages for each of steps, for monitors",
            remedy="turn it off where nobody watches; `tasker task` and the log of moves do not need it",
        )
    if conf.worker_max_tasks_per_child and conf.worker_max_tasks_per_child < FEW_TASKS_PER_CHILD:
        yield Finding(
            "celery",
            ok=True,
            text=f"worker_max_tasks_per_child is {conf.worker_max_tasks_per_child}: a new process, with new "
            "connections, after so few messages",
            remedy=f"set it to {FEW_TASKS_PER_CHILD} or more, or mend what leaks",
        )


def _address(app: Celery) -> str:
    connection = app.connection_for_write()
    # kombu shows stars for a password, also where there is none
    return str(connection.as_uri() if connection.password else connection.as_uri().replace(":**@", ""))


def _redis_memory(connection: Any) -> Finding:
    # INFO, since hosted Redis services forbid CONFIG GET
    policy = connection.default_channel.client.info("memory").get("maxmemory_policy", KEEPS_MESSAGES)
    if policy == KEEPS_MESSAGES:
        return Finding(
            "broker_memory", ok=True, text="Redis keeps every message (maxmemory-policy noeviction)"
        )
    return Finding(
        "broker_memory",
        ok=False,
        text=f"Redis drops messages when its memory is full: maxmemory-policy is {policy}",
        remedy=f"set maxmemory-policy to {KEEPS_MESSAGES}",
    )
