"""The SQL files of this build, and the script that brings a database's functions up to them."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from tasker.db.revisions import SERVES
from tasker.domain.packaged import installed_version, packaged_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

REGISTER = """\
create table tasker.sql_files (
    name       text primary key,
    digest     text not null,
    header     text not null,
    applied_at timestamptz not null
);
comment on table tasker.sql_files is 'SQL files this database was made from; kept by tasker db migrate';

create table tasker.release (
    only_row boolean primary key default true check (only_row),
    version  text not null,
    serves   text not null
);
comment on table tasker.release is 'the newest release that migrated, and the oldest one it serves';
"""

COMMENT_LINES = re.compile(r"^\s*--.*$", re.MULTILINE)
INDEX = re.compile(r"^create (?:unique )?index (\w+)", re.MULTILINE)
BODY = re.compile(r"\bas\s+\$", re.IGNORECASE)


class SqlFile(NamedTuple):
    """One file; `name` is its path below `sql/`."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """Changes with any change of the text."""
        return _digest(self.text)

    @property
    def header(self) -> str:
        """Changes with the arguments, the result and the attributes of a function, not with its body."""
        return _digest(" ".join(BODY.split(COMMENT_LINES.sub("", self.text), maxsplit=1)[0].split()))

    def record(self) -> str:
        """The statement that notes this file as applied."""
        return (
            "insert into tasker.sql_files (name, digest, header, applied_at)\n"
            f"values ('{self.name}', '{self.digest}', '{self.header}', clock_timestamp())\n"
            "on conflict (name) do update\n"
            "set digest = excluded.digest, header = excluded.header, applied_at = excluded.applied_at;\n"
        )


class Applied(NamedTuple):
    """What a database says about a file."""

    digest: str
    header: str


class Release(NamedTuple):
    """The release that made a database, and the oldest one whose processes run on it."""

    version: str
    serves: str

    def is_newer_than(self, version: str) -> bool:
        """Whether it was made after `version`."""
        return _order(self.version) > _order(version)

    def is_for(self, version: str) -> bool:
        """Whether processes of `version` run on its database."""
        return _order(self.serves) <= _order(version)


class Scripts(NamedTuple):
    """All SQL files of a build, in the order of their names, and which release it is."""

    schema: tuple[SqlFile, ...]
    functions: tuple[SqlFile, ...]
    release: Release

    @classmethod
    def read(cls, folder: Path | None = None) -> Scripts:
        """The files below `folder`, which is this build's own by default."""
        root = folder or packaged_folder("sql")
        return cls(_files(root, "schema"), _files(root, "functions"), Release(installed_version(), SERVES))

    def schema_script(self) -> str:
        """All tables, and the note of what they were made from."""
        return "\n".join(
            (REGISTER, *(f"-- {file.name}\n{file.text}\n{file.record()}" for file in self.schema))
        )

    def index_names(self) -> tuple[str, ...]:
        """The indexes of the tables, less those that belong to a key."""
        return tuple(name for file in self.schema for name in INDEX.findall(file.text))

    def changed_functions(self, applied: Mapping[str, Applied]) -> tuple[SqlFile, ...]:
        """The functions that are new or whose text is another than the one applied."""
        return tuple(file for file in self.functions if not _is_applied(file, applied))

    def vanished_functions(self, applied: Mapping[str, Applied]) -> tuple[str, ...]:
        """The names of files whose functions this build has no more."""
        kept = {file.name for file in self.functions}
        return tuple(sorted(name for name in applied if name.startswith("functions/") and name not in kept))

    def changed_schema(self, applied: Mapping[str, Applied]) -> tuple[str, ...]:
        """The names of schema files that differ from those the database was made from."""
        names = {file.name for file in self.schema if not _is_applied(file, applied)}
        names |= {name for name in applied if name.startswith("schema/")} - {
            file.name for file in self.schema
        }
        return tuple(sorted(names))

    def functions_script(self, applied: Mapping[str, Applied]) -> str:
        """What brings the functions of a database that has `applied` up to this build.

        A function with the same header is replaced in place, under running workers. Another header
        may mean other arguments or another result, which PostgreSQL does not replace: the old one goes first.
        """
        parts = ["set local check_function_bodies = off;\n"]
        for name in self.vanished_functions(applied):
            parts += [_drop(name), _forget(name)]
        for file in self.changed_functions(applied):
            if _changes_header(file, applied):
                parts.append(_drop(file.name))
            parts += [f"-- {file.name}\n{file.text.rstrip()}\n", file.record()]
        return "\n".join((*parts, self._release_script()))

    def broken_functions(self, applied: Mapping[str, Applied]) -> tuple[str, ...]:
        """The functions that running processes of the release before call in vain once this is applied."""
        changed = (file.name for file in self.functions if _changes_header(file, applied))
        return tuple(sorted((*changed, *self.vanished_functions(applied))))

    def _release_script(self) -> str:
        return (
            "insert into tasker.release (version, serves)\n"
            f"values ('{self.release.version}', '{self.release.serves}')\n"
            "on conflict (only_row) do update set version = excluded.version, serves = excluded.serves;\n"
        )


def _files(root: Path, kind: str) -> tuple[SqlFile, ...]:
    paths: Iterable[Path] = sorted((root / kind).glob("*.sql"))
    return tuple(SqlFile(f"{kind}/{path.name}", path.read_text("utf-8")) for path in paths)


def _is_applied(file: SqlFile, applied: Mapping[str, Applied]) -> bool:
    return file.name in applied and applied[file.name].digest == file.digest


def _changes_header(file: SqlFile, applied: Mapping[str, Applied]) -> bool:
    return file.name in applied and applied[file.name].header != file.header


def _order(version: str) -> tuple[int, ...]:
    """The numbers a version begins with; whatever follows them is of the same release."""
    numbers = re.split(r"[^0-9.]", version, maxsplit=1)[0]
    return tuple(int(number) for number in numbers.split(".") if number)


def _drop(name: str) -> str:
    return f"drop function if exists tasker.{name.removeprefix('functions/').removesuffix('.sql')};\n"


def _forget(name: str) -> str:
    return f"delete from tasker.sql_files where name = '{name}';\n"  # noqa: S608 - a name made from a file's


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
