"""The examples that come with Tasker, as `tasker demo` runs them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tasker.domain.packaged import IN_WHEEL, packaged_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tasker.orchestration.client import Task

FOLDER = "workers"


class Example(Protocol):
    """What each of them says about itself."""

    @property
    def template(self) -> Any:
        """The template object to submit."""

    @property
    def context(self) -> dict[str, Any]:
        """With which input."""

    def expected(self) -> Mapping[str, Any]:
        """What must come of it."""

    def found(self, task: Task) -> Mapping[str, Any]:
        """What came of it."""


class Examples(NamedTuple):
    """The module for `-A`, the folder in which it is found, and the examples in it by name."""

    module: str
    found_in: Path
    by_name: Mapping[str, Example]


def load_examples() -> Examples:
    """Import the examples: `tasker._examples` of an installed wheel, `workers` of a checkout."""
    folder = packaged_folder(FOLDER)
    if folder.name == IN_WHEEL[FOLDER]:
        module, found_in = f"tasker.{folder.name}", folder.parents[1]
    else:
        module, found_in = folder.name, folder.parent
        if str(found_in) not in sys.path:
            sys.path.insert(0, str(found_in))
    return Examples(module, found_in, import_module(module).EXAMPLES)
