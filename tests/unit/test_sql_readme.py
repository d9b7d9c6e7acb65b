"""sql/README.md is the way into the SQL, so it names every file and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

SQL = Path(__file__).resolve().parents[2] / "sql"
README = (SQL / "README.md").read_text()


def catalogue(heading: str) -> list[str]:
    """The names in the first columns of the tables below a heading of the second level."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_catalogue_lists_every_function_once() -> None:
    assert sorted(catalogue("Functions")) == sorted(path.stem for path in SQL.glob("functions/*.sql"))


def test_the_catalogue_lists_every_table_once() -> None:
    schema = "".join(path.read_text() for path in SQL.glob("schema/*.sql"))
    assert sorted(catalogue("Tables")) == sorted(
        re.findall(r"^create table tasker\.(\w+)", schema, re.MULTILINE)
    )


def test_every_sqlstate_that_a_function_raises_is_explained() -> None:
    functions = "".join(path.read_text() for path in SQL.glob("functions/*.sql"))
    assert set(re.findall(r"errcode = '(TK\d+)'", functions)) == set(re.findall(r"TK\d{3}", README))
