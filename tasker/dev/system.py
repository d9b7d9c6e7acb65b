"""The servers of `tasker dev` and `tasker demo`, ready for Tasker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasker.db.migrate import migrate
from tasker.dev import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

    from tasker.dev.servers import DevSystem
    from tasker.settings import Settings


@contextmanager
def start_system(settings: Settings, *, durable: bool = True) -> Iterator[DevSystem]:
    """The configured servers, and embedded ones in their data folder for those that are not; migrated.

    Raises what `servers.start` and `migrate` raise.
    """
    with servers.start(
        settings.data_dir,
        database_url=_revealed(settings.database_url),
        broker_url=_revealed(settings.broker_url),
        durable=durable,
    ) as system:
        migrate(system.database_url)
        yield system


def variables_of(system: DevSystem) -> dict[str, str]:
    """What makes a process find the servers."""
    return {"TASKER_DATABASE_URL": system.database_url, "TASKER_BROKER_URL": system.broker_url}


def _revealed(url: SecretStr | None) -> str | None:
    return None if url is None else url.get_secret_value()
