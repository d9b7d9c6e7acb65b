"""What `tasker dev` and `demo` say about the servers they use."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from tasker.dev.system import kept
from tasker.settings import Settings

DATABASE = SecretStr("postgresql://shop:hunter2@db.example/shop")
BROKER = SecretStr("amqp://shop:hunter2@mq.example/")


def test_configured_servers_are_named_without_their_passwords() -> None:
    assert list(kept(Settings(database_url=DATABASE, broker_url=BROKER))) == [
        "PostgreSQL is the configured one, postgresql://shop:***@db.example/shop",
        "the broker is the configured one, amqp://shop:***@mq.example/",
    ]


def test_other_servers_are_named_by_the_place_of_their_data(tmp_path: Path) -> None:
    data = tmp_path / ".tasker"
    settings = Settings(database_url=None, broker_url=None, data_dir=data)
    in_folder = [f"PostgreSQL keeps its data in {data}", f"Redis keeps its data in {data}"]
    assert list(kept(settings)) == in_folder
    (data / "postgres-18").mkdir(parents=True)
    assert list(kept(settings)) == in_folder
    (data / "postgres-18").rmdir()
    elsewhere = Path("/elsewhere/tasker-0/0123456789ab/postgres-18")
    (data / "postgres-18").symlink_to(elsewhere)
    assert next(kept(settings)) == (
        f"PostgreSQL keeps its data in {elsewhere}, since its user cannot enter {data}; "
        "whatever clears /elsewhere deletes them"
    )
