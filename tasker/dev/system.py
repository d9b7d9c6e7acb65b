"""The servers of `tasker dev` and `tasker demo`, ready for Tasker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasker.db.migrate import migrate
from tasker.dev import servers
from tasker.dev.postgres import cluster_name
from tasker.settings import redaction

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


def configured_servers(settings: Settings) -> dict[str, str]:
    """What the settings name, of `PostgreSQL` and `the broker`, with its URL less the password."""
    urls = {"PostgreSQL": settings.database_url, "the broker": settings.broker_url}
    hide = redaction(settings).hide
    return {name: hide(url.get_secret_value()) for name, url in urls.items() if url is not None}


def kept(settings: Settings) -> Iterator[str]:
    """A line for people on each server while it runs: which it is, or where its data are."""
    configured = configured_servers(settings)
    if url := configured.get("PostgreSQL"):
        yield f"PostgreSQL is the configured one, {url}"
    elif (link := settings.data_dir / cluster_name()).is_symlink():
        place = link.readlink()
        yield (
            f"PostgreSQL keeps its data in {place}, since its user cannot enter "
            f"{settings.data_dir.absolute()}; whatever clears {place.parents[2]} deletes them"
        )
    else:
        yield f"PostgreSQL keeps its data in {settings.data_dir}"
    if url := configured.get("the broker"):
        yield f"the broker is the configured one, {url}"
    else:
        yield f"Redis keeps its data in {settings.data_dir}"


def variables_of(system: DevSystem) -> dict[str, str]:
    """What makes a process find the servers."""
    return {"TASKER_DATABASE_URL": system.database_url, "TASKER_BROKER_URL": system.broker_url}


def _revealed(url: SecretStr | None) -> str | None:
    return None if url is None else url.get_secret_value()
