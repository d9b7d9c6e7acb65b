"""The examples through PgBouncer in transaction mode, as the whole suite is with `TASKER_TEST_POOLER=1`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.system import APPS, System
from tests.pooler import PROGRAM, pooler_before
from workers import EXAMPLES

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (apt install pgbouncer)")


@pytest.fixture
def pooled_system(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    with (
        pooler_before(database_url, tmp_path / "pooler") as through,
        System(through(database_url), redis_url, tmp_path) as system,
    ):
        yield system
        assert system.violations() == []


def test_the_examples_come_out_right_though_their_sessions_change_hands(
    pooled_system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("TASKER_DATABASE_URL", "TASKER_BROKER_URL"):
        monkeypatch.setenv(variable, pooled_system.variables()[variable])
    with pooled_system.worker(f"{APPS}.troubled", "--concurrency", "2") as worker:
        pooled_system.ready(worker)
        for example in EXAMPLES.values():
            context = {**example.context, "trouble": {"step": "mean", "failures": 1}}
            tasks = [pooled_system.submit(str(example.template.full_name), context) for _ in range(2)]
            assert [pooled_system.settled(task) for task in tasks] == ["complete"] * 2
            assert [example.found(task) for task in tasks] == [example.expected()] * 2
