"""The PostgreSQL and the Redis that every side uses, as safe as they are in use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import redis
from psycopg import sql

from tasker.dev.servers import start

DATABASE = "TASKER_DATABASE_URL"
BROKER = "TASKER_BROKER_URL"
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Servers:
    """Where they are, and a folder for logs."""

    database_url: str
    broker_url: str
    folder: Path

    def database(self, name: str) -> str:
        """The URL of a database of this name beside the first, made when missing."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            if not connection.execute("select from pg_database where datname = %s", [name]).fetchall():
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return urlsplit(self.database_url)._replace(path=f"/{name}").geturl()

    def redis(self) -> redis.Redis:
        """A client of the broker."""
        return redis_at(self.broker_url)

    def settings(self) -> dict[str, str]:
        """What decides how much a commit, and a message, costs."""
        with psycopg.connect(self.database_url) as connection, self.redis() as client:
            found = _settings(connection)
            appended = client.config_get("appendonly") | client.config_get("appendfsync")
        return found | {f"Redis' {name}": str(value) for name, value in appended.items()}

    def versions(self) -> dict[str, str]:
        """Of the two servers."""
        with psycopg.connect(self.database_url) as connection, self.redis() as client:
            major, minor = divmod(connection.info.server_version, 10_000)
            return {"PostgreSQL": f"{major}.{minor}", "Redis": client.info("server")["redis_version"]}


@contextmanager
def servers() -> Iterator[Servers]:
    """Those that the environment names, else embedded ones that are gone afterwards.

    Ends the program when PostgreSQL does not write commits to disk: the figures would be of something else.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasker-bench-")))
        named = [os.environ.get(DATABASE), os.environ.get(BROKER)]
        system = stack.enter_context(start(folder, database_url=named[0], broker_url=named[1]))
        for variable, before in zip((DATABASE, BROKER), named, strict=True):
            if before is None:
                stack.callback(os.environ.pop, variable)
        os.environ |= {DATABASE: system.database_url, BROKER: system.broker_url}
        _refuse_unsafe(system.database_url)
        yield Servers(system.database_url, system.broker_url, folder)


def redis_at(url: str) -> redis.Redis:
    """A client of a broker named in Celery's notation."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return redis.Redis(unix_socket_path=unquote(parts.path))
    return redis.Redis.from_url(url)


def _settings(connection: psycopg.Connection) -> dict[str, str]:
    query = "select name, setting from pg_settings where name = any(%s)"
    return dict(connection.execute(query, [sorted(DURABLE)]).fetchall())


def _refuse_unsafe(url: str) -> None:
    with psycopg.connect(url) as connection:
        found = _settings(connection)
    unsafe = [f"{name} = {found[name]}" for name, value in DURABLE.items() if found[name] != value]
    if unsafe:
        raise SystemExit(f"PostgreSQL would lose commits with {', '.join(unsafe)}: turn it on to measure")
