"""An application's `Tasker` before it has met any server."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tasker import SettingsError, Tasker
from tasker.settings import Settings

BROKER = SecretStr("redis://localhost:1/0")


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TASKER_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_database_it_says_so_when_it_needs_one_and_closes_all_the_same() -> None:
    tasker = Tasker(Settings(broker_url=BROKER))
    with pytest.raises(SettingsError, match="TASKER_DATABASE_URL"):
        tasker.submit("shop/order")
    tasker.close()


def test_a_database_url_that_is_none_is_refused_at_once_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as refused:
        Tasker(Settings(database_url=SecretStr("postgresql://shop:hunter2@[host/shop"), broker_url=BROKER))
    assert "hunter2" not in str(refused.value)


def test_there_is_one_pool_and_one_poller_whoever_asks_first() -> None:
    tasker = Tasker(Settings(database_url=SecretStr("postgresql://localhost:1/shop"), broker_url=BROKER))
    assert tasker.database is tasker.database is tasker.engine.database
    assert tasker.poller is tasker.poller
    tasker.close()
