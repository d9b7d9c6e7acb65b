"""What `tasker dev` makes of an application: its files, their changes, versions, and contexts to try."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasker import TaskTemplate
from tasker.db.engine import Database
from tasker.dev.reload import Watch, loaded
from tasker.dev.sample import sample
from tasker.dev.versions import number_edited
from tasker.domain.schemas import context_check
from tasker.orchestration.templates import store_templates
from tasker.worker import registry
from workers import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_sample_of_a_schema_satisfies_it(name: str) -> None:
    schema: dict[str, Any] = EXAMPLES[name].template.definition.context_schema
    context_check(schema)(json.loads(sample(schema)))


def test_a_sample_takes_what_the_schema_gives_as_an_example() -> None:
    schema = {
        "type": "object",
        "required": ["at", "kind", "who", "deep"],
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "kind": {"enum": ["first", "second"]},
            "who": {"type": "string", "examples": ["ann"]},
            "deep": {"$ref": "#/$defs/Deep"},
            "free": {"type": "string"},
        },
        "$defs": {
            "Deep": {"type": "object", "required": ["yes"], "properties": {"yes": {"type": "boolean"}}}
        },
    }
    expected = {"at": "2030-01-31T12:00:00Z", "kind": "first", "who": "ann", "deep": {"yes": True}}
    assert json.loads(sample(schema)) == expected


def test_a_watch_tells_of_written_and_removed_files_once(tmp_path: Path) -> None:
    kept, written, removed = (tmp_path / name for name in ("kept", "written", "removed"))
    for file in (kept, written, removed):
        file.touch()
    watch = Watch(map(str, (kept, written, removed)))
    assert watch.changed() == []
    os.utime(written, ns=(1, 1))
    removed.unlink()
    assert watch.changed() == [written, removed]
    assert watch.changed() == []


def test_an_application_is_made_of_its_modules_and_template_files_and_of_nothing_installed() -> None:
    files = {Path(file).name for file in loaded()["files"]}
    assert {"linear.py", "mixed.yaml", "shop.py"} <= files
    assert not any("site-packages" in file for file in loaded()["files"])


def test_a_file_that_cannot_be_imported_belongs_to_the_application(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def (")
    with pytest.raises(SyntaxError) as raised:
        compile(broken.read_text(), broken, "exec")
    assert str(broken) in loaded(raised.value)["files"]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Fills the registry as the start of a worker does whose module has these steps."""

    def work() -> None: ...

    def _declare(*steps: str, version: str = "1.0.0") -> None:
        monkeypatch.setattr(registry, "process", registry.Registry())
        template = TaskTemplate("edited/one", version=version)
        for step in steps:
            template.add_step(work, name=step)

    return _declare


def test_an_edited_template_gets_the_next_version_and_so_does_its_return_to_what_it_was(
    database_url: str, declare: Callable[..., None]
) -> None:
    with closing(Database(database_url)) as database:

        def start(*steps: str, version: str = "1.0.0") -> tuple[str, bool]:
            declare(*steps, version=version)
            told = bool(list(number_edited(database)))
            store_templates(database, registry.process.templates, "celery")
            (template,) = registry.process.templates
            return template.version, told

        assert start("a") == ("1.0.0", False)
        assert start("a", "b") == ("1.0.0+dev.1", True)
        assert start("a", "b") == ("1.0.0+dev.1", False)
        assert start("a") == ("1.0.0+dev.2", True)
        assert start("a", version="1.1.0") == ("1.1.0", False)
