"""Servers, a shell and a shop for the tests of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration.client import Tasker
from tasker.orchestration.templates import store
from tasker.settings import Settings
from tests.integration.cli.forked import Commands
from tests.integration.cli.typed import ROOT, SHOP, Ended, Run, write

OURS = ("TASKER_", "DATABASE_URL", "CELERY_", "PYTHON", "NO_COLOR")


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    """This process's environment without what is set for Tasker, but with the test's servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "TASKER_DATABASE_URL": database_url,
        "TASKER_BROKER_URL": redis_url,
        "USER": "ann",
        "LOGNAME": "ann",
    }


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """What runs commands quickly."""
    started = Commands(ROOT)
    yield started
    started.close()


@pytest.fixture
def run(commands: Commands, environment: dict[str, str], tmp_path: Path, tmp_path_factory: Any) -> Run:
    """Run `tasker` in an empty folder; further keywords are environment variables, None to remove one."""
    streams = tmp_path_factory.mktemp("streams")

    def run(*arguments: str, input: str = "", **variables: str | None) -> Ended:  # noqa: A002
        merged = {**environment, **variables}
        files = [streams / name for name in ("in", "out", "err")]
        for file, text in zip(files, (input, "", ""), strict=True):
            file.write_text(text)
        known = {name: value for name, value in merged.items() if value is not None}
        code = commands.run(list(arguments), tmp_path, known, files)
        return Ended(code, files[1].read_text(), files[2].read_text())

    return run


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The name of a module with one template, a diamond."""
    write(tmp_path / "shop.py", SHOP)
    return "shop"


@pytest.fixture
def tasks(database_url: str, redis_url: str) -> Iterator[Tasker]:
    """A client, to make what a test looks at; its database has one template."""
    steps = [
        ("validate", ()),
        ("reserve", ("validate",)),
        ("charge", ("validate",)),
        ("ship", ("reserve", "charge")),
    ]
    definition = TemplateDefinition(
        "orders",
        "fulfilment",
        "1.0.0",
        tuple(StepDefinition(name, f"orders/fulfilment.{name}", parents) for name, parents in steps),
    )
    client = Tasker(Settings(database_url=SecretStr(database_url), broker_url=SecretStr(redis_url)))
    store(client.database, definition, "celery")
    yield client
    client.close()
