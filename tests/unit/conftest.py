"""What unit tests share."""

from __future__ import annotations

import pytest

from tasker.worker import registry


@pytest.fixture(autouse=True)
def process_registry(monkeypatch: pytest.MonkeyPatch) -> registry.Registry:
    """An empty registry in the place of the process's own, as a new worker has it."""
    empty = registry.Registry()
    monkeypatch.setattr(registry, "process", empty)
    return empty
