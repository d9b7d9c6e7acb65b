"""What doctor says of an application's Celery app."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from tasker.broker import celery_app
from tasker.settings import Settings
from tasker.worker.broker_check import broker_checks, celery_checks

AWAY = "redis://:hunter2@localhost:1/0"


def app(**conf: Any) -> Celery:
    built = Celery("shop", broker=AWAY, set_as_current=False)
    built.conf.update(worker_prefetch_multiplier=1, **conf)
    return built


def test_an_app_that_suits_us_is_not_talked_about() -> None:
    assert list(celery_checks(app())) == []


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"accept_content": ["pickle"]}, "accept_content is pickle: workers refuse the messages of steps"),
        ({"worker_pool": "gevent"}, "worker_pool is gevent: a worker of this app does not start"),
    ],
)
def test_settings_that_keep_steps_from_running_are_wrong(conf: dict[str, Any], said: str) -> None:
    (found,) = celery_checks(app(**conf))
    assert (found.text, found.ok) == (said, False)
    assert found.remedy


@pytest.mark.parametrize(
    "conf",
    [
        {"worker_prefetch_multiplier": 4},
        {"task_default_rate_limit": "10/m"},
        {"worker_send_task_events": True},
        {"worker_max_tasks_per_child": 10},
    ],
    ids=lambda conf: next(iter(conf)),
)
def test_settings_that_slow_steps_down_are_advised_against(conf: dict[str, Any]) -> None:
    built = app()
    built.conf.update(conf)
    (found,) = celery_checks(built)
    assert found.ok
    assert found.remedy


def test_our_own_app_is_as_it_should_be() -> None:
    assert list(celery_checks(celery_app(Settings(broker_url=SecretStr(AWAY))))) == []


def test_a_broker_that_is_away_is_named_without_its_password() -> None:
    (found,) = broker_checks(app())
    assert not found.ok
    assert "localhost:1" in found.text
    assert "hunter2" not in found.text
