"""Systems that the acceptance tests share: starting a worker takes longer than most of what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.system import APPS, System
from tests.conftest import Cluster, Databases, redis_client_of
from tests.pooler import pooler_before

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
def system(  # noqa: PLR0917 - fixtures
    databases: Databases,
    template_database: str,
    cluster: Cluster,
    worker_number: int,
    tmp_path_factory: pytest.TempPathFactory,
    through: Callable[[str], str],
) -> Iterator[System]:
    """The system that most tests share; one worker of two processes runs the module `troubled`."""
    broker_url = cluster.redis_database(SHARED_REDIS + worker_number % SHARED_REDIS)
    with redis_client_of(broker_url) as client, databases.make(template_database) as url:
        client.flushdb()
        with System(through(url), broker_url, tmp_path_factory.mktemp("system")) as system:
            with system.worker(f"{APPS}.troubled", "--concurrency", "2") as worker:
                system.ready(worker)
                yield system
            client.flushdb()


@pytest.fixture
def own_system(
    database_url: str, redis_url: str, tmp_path: Path, through: Callable[[str], str]
) -> Iterator[System]:
    """A system of this test alone, without workers."""
    with System(through(database_url), redis_url, tmp_path) as system:
        yield system
        assert system.violations() == []
