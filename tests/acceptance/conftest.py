"""Systems that the acceptance tests share: starting a worker takes longer than most of what it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.system import APPS, System
from tests.conftest import Cluster, Databases, redis_client_of

SHARED_REDIS = 8
"""The logical databases of Redis from here on are for systems that live longer than one test."""


@pytest.fixture(scope="session")
def system(
    databases: Databases,
    template_database: str,
    cluster: Cluster,
    worker_number: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """The system that most tests share; one worker of two processes runs the module `troubled`."""
    broker_url = cluster.redis_database(SHARED_REDIS + worker_number % SHARED_REDIS)
    with redis_client_of(broker_url) as client, databases.make(template_database) as url:
        client.flushdb()
        with System(url, broker_url, tmp_path_factory.mktemp("system")) as system:
            with system.worker(f"{APPS}.troubled", "--concurrency", "2") as worker:
                system.ready(worker)
                yield system
            client.flushdb()


@pytest.fixture
def own_system(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    """A system of this test alone, without workers."""
    with System(database_url, redis_url, tmp_path) as system:
        yield system
        assert system.violations() == []
