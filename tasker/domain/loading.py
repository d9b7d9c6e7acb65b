"""Whether this process is importing an application's module of templates right now."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tasker.domain.errors import TaskerError

if TYPE_CHECKING:
    from collections.abc import Iterator

_loading: ContextVar[str | None] = ContextVar("tasker_loading", default=None)


@contextmanager
def loading(module: str) -> Iterator[None]:
    """For the length of the block, `-A MODULE` is being imported."""
    token = _loading.set(module)
    try:
        yield
    finally:
        _loading.reset(token)


def refuse_while_loading(act: str) -> None:
    """Raise TaskerError when called from a module that a worker or the CLI is importing."""
    module = _loading.get()
    if module is not None:
        raise TaskerError(
            f"{act} while -A {module} is being imported: every worker and command would do it again; "
            'move it into a function, or under `if __name__ == "__main__":`'
        )
