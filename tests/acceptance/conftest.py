"""Systems that the acceptance tests share: starting a worker takes longer than most of what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.system import APPS, System, empty
from tests.conftest import Cluster, Databases
from tests.pooler import pooler_before
from tests.rabbitmq import start_rabbitmq

SHARED_REDIS = 8
"""The logical databases of Redis from here on are for systems that live longer than one test."""


@pytest.fixture(scope="session")
def through(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """How the tests' processes reach a database: directly, or as TASKER_TEST_POOLER=1 says, by PgBouncer."""
    if os.environ.get("TASKER_TEST_POOLER"):
        with pooler_before(cluster.database_url, tmp_path_factory.mktemp("pooler")) as through_pooler:
            yield through_pooler
    else:
        yield lambda url: url


@pytest.fixture(scope="session")
def instead_of_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """Which broker carries messages: the Redis named, or as TASKER_TEST_BROKER=rabbitmq says, RabbitMQ."""
    if os.environ.get("TASKER_TEST_BROKER") == "rabbitmq":
        folder = tmp_path_factory.mktemp("rabbitmq")
        with start_rabbitmq(folder, ["shared", "own", "kills", "late"]) as url:
            yield lambda host, _: url + host
    else:
        yield lambda _, redis_url: redis_url


@pytest.fixture(scope="session")
def system(  # noqa: PLR0917 - fixtures
    databases: Databases,
    template_database: str,
    cluster: Cluster,
    worker_number: int,
    tmp_path_factory: pytest.TempPathFactory,
    through: Callable[[str], str],
    instead_of_redis: Callable[[str, str], str],
) -> Iterator[System]:
    """The system that most tests share; one worker of two processes runs the module `troubled`."""
    redis_url = cluster.redis_database(SHARED_REDIS + worker_number % SHARED_REDIS)
    broker_url = instead_of_redis("shared", redis_url)
    empty(broker_url)
    with (
        databases.make(template_database) as url,
        System(through(url), broker_url, tmp_path_factory.mktemp("system")) as system,
    ):
        with system.worker(f"{APPS}.troubled", "--concurrency", "2") as worker:
            system.ready(worker)
            yield system
        system.empty_broker()


@pytest.fixture
def own_system(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    through: Callable[[str], str],
    instead_of_redis: Callable[[str, str], str],
) -> Iterator[System]:
    """A system of this test alone, without workers."""
    with System(through(database_url), instead_of_redis("own", redis_url), tmp_path) as system:
        system.empty_broker()
        yield system
        assert system.violations() == []
