"""Which files an application is made of, and whether one of them has changed."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tasker.dev.sample import sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOREIGN = ("site-packages", "dist-packages")


class Loaded(TypedDict):
    """What a worker tells the process that watches over it: its own files, and contexts to try."""

    files: list[str]
    templates: dict[str, str]


NOTHING: Loaded = {"files": [], "templates": {}}


class Watch:
    """The files of one start of a worker, as they were then."""

    def __init__(self, files: Iterable[str]) -> None:
        self._seen = {Path(file): _changed_at(Path(file)) for file in files}

    def changed(self) -> list[Path]:
        """The files that were written or removed since the last call."""
        now = {file: _changed_at(file) for file in self._seen}
        changed = [file for file, at in now.items() if at != self._seen[file]]
        self._seen = now
        return changed


def loaded(failure: Exception | None = None) -> Loaded:
    """What this process has loaded; with `failure`, also the files that it arose in."""
    from tasker.worker import registry

    files = {
        *(str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())),
        *(template.location.rpartition(":")[0] for template in registry.process.templates),
        *(_files_of(failure) if failure else ()),
    }
    templates = (
        {}
        if failure
        else {
            template.full_name: sample(template.definition.context_schema)
            for template in registry.process.templates
        }
    )
    return {"files": sorted(_own(files)), "templates": templates}


def _own(files: Iterable[str]) -> Iterator[str]:
    """Those that somebody may be working on, absolute: neither Python's nor installed."""
    library = Path(sysconfig.get_path("stdlib"))
    for file in files:
        path = Path(file).absolute()
        if path.is_file() and library not in path.parents and not set(FOREIGN).intersection(path.parts):
            yield str(path)


def _files_of(failure: Exception) -> Iterator[str]:
    yield from (frame.filename for frame in traceback.extract_tb(failure.__traceback__))
    if isinstance(failure, SyntaxError) and failure.filename:
        yield failure.filename


def _changed_at(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
