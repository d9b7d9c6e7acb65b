"""Settings that can be told to be wrong before anything is asked."""

from __future__ import annotations

import pytest
from kombu.transport import TRANSPORT_ALIASES
from pydantic import SecretStr

from tasker.domain.errors import SettingsError
from tasker.settings import Settings, server_problems


@pytest.mark.parametrize("scheme", [*TRANSPORT_ALIASES, "redis+socket", "sqla+postgresql"])
def test_every_transport_of_celery_can_be_the_broker(scheme: str) -> None:
    settings = Settings(broker_url=SecretStr(f"{scheme}://host"))
    assert settings.require_broker_url() == f"{scheme}://host"
    assert server_problems(settings) == []


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "PostgreSQL"])
def test_postgresql_has_several_names(scheme: str) -> None:
    assert Settings(database_url=SecretStr(f"{scheme}://host/name")).require_database_url()


def test_a_server_that_no_variable_names_is_told_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TASKER_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(database_url=SecretStr("mysql://user:hunter2@host/name"))
    with pytest.raises(SettingsError, match=r"^database_url begins with mysql://: it takes PostgreSQL"):
        settings.require_database_url()
    (problem,) = server_problems(settings)
    assert "hunter2" not in problem
