"""Settings, the schema, and errors as they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.cli.typed import Ended, Run, write


def test_config_show_says_where_each_value_is_from_and_hides_passwords(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "config/tasker.yaml", "batch_max_steps: 8\nmax_losses: 5\n")
    ended = run(
        "-A",
        "shop",
        "config",
        "show",
        "-o",
        "json",
        TASKER_DATABASE_URL=None,
        DATABASE_URL="postgresql://shop:hunter2@db/shop",
        TASKER_MAX_LOSSES="4",
    )
    found = {row["name"]: (row["value"], row["origin"]) for row in ended.json["settings"]}
    assert found["database_url"] == ("postgresql://shop:***@db/shop", "DATABASE_URL")
    assert found["app"] == ("shop", "flag")
    assert found["max_losses"] == (4, "TASKER_MAX_LOSSES")
    assert found["batch_max_steps"] == (8, "config/tasker.yaml")
    assert found["continuation_ms"] == (250, "default")
    assert found["broker_url"][1] == "TASKER_BROKER_URL"
    assert ended.code == 0


def test_config_show_in_a_pipe_is_aligned_text_of_whole_values(run: Run) -> None:
    long = f"postgresql://db/{'x' * 200}"
    lines = run("config", "show", TASKER_DATABASE_URL=long).out.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    assert lines[1].split() == ["database_url", long, "TASKER_DATABASE_URL"]
    assert len({line.index("default") for line in lines if line.endswith("default")}) == 1


def test_config_validate_names_the_nearest_setting_and_variable(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "mine.yaml", "batch_max_step: 8\nmax_losses: none\n")
    ended = run("--config", "mine.yaml", "config", "validate", TASKER_DATABSE_URL="postgresql://db")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "error: setting max_losses: Input should be a valid integer, unable to parse string as an integer",
        "error: mine.yaml: unknown setting batch_max_step; did you mean batch_max_steps?",
        "error: TASKER_DATABSE_URL is no setting; did you mean TASKER_DATABASE_URL?",
    ]
    assert run("config", "validate").code == 0


@pytest.mark.parametrize(
    ("variable", "url", "said"),
    [
        ("TASKER_DATABASE_URL", "mysql://u:hunter2@h/d", "begins with mysql://: it takes PostgreSQL, as in "),
        ("TASKER_DATABASE_URL", "hunter2", "is no URL: it takes PostgreSQL, as in "),
        ("TASKER_BROKER_URL", "foo://u:hunter2@h", "begins with foo://: it takes Redis or RabbitMQ, as in "),
        ("TASKER_BROKER_URL", "hunter2", "is no URL: it takes Redis or RabbitMQ, as in "),
    ],
)
def test_a_server_of_another_kind_is_refused_by_the_name_of_its_variable(
    run: Run, variable: str, url: str, said: str
) -> None:
    validated = run("config", "validate", **{variable: url})
    assert (validated.code, validated.err.startswith(f"error: {variable} {said}")) == (1, True)
    doctor = run("doctor", **{variable: url})
    assert doctor.code == 1
    assert f"wrong   {variable} {said.partition(':')[0]}" in doctor.out
    submitted = run("task", "submit", "hello", **{variable: url})
    assert (submitted.code, submitted.err.startswith(f"error: {variable} {said}")) == (1, True)
    assert "hunter2" not in "".join(ended.out + ended.err for ended in (validated, doctor, submitted))


def test_a_command_without_a_database_says_how_to_name_one(run: Run) -> None:
    ended = run("db", "status", TASKER_DATABASE_URL=None)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(
        "error: no database: set TASKER_DATABASE_URL (or DATABASE_URL), or run `tasker dev`"
    )


def test_an_error_is_one_line_and_the_traceback_is_for_those_who_ask(run: Run) -> None:
    away = "postgresql://shop:hunter2@localhost:1/shop"
    ended = run("db", "status", TASKER_DATABASE_URL=away)
    assert ended.code == 6
    (line,) = ended.err.splitlines()
    assert line.startswith("error: PostgreSQL does not answer: ")
    assert line.endswith("; `tasker config show` prints the address in use")
    asked = run("db", "status", TASKER_DATABASE_URL=away, TASKER_DEBUG="1")
    assert "Traceback (most recent call last)" in asked.err
    assert asked.code == 6


def test_a_user_that_may_not_do_this_is_told_so_by_the_exit_code(
    run: Run, database_url: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("create role clerk login password 'clerk'")
    try:
        separator = "&" if "?" in database_url else "?"
        as_clerk = f"{database_url}{separator}user=clerk&password=clerk"
        ended = run("template", "list", TASKER_DATABASE_URL=as_clerk)
        assert ended.code == 5
        assert "permission denied" in ended.err
    finally:
        connection.execute("drop role clerk")


def test_a_database_url_as_sqlalchemy_writes_it_is_understood(run: Run, database_url: str) -> None:
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    assert run("task", "list", TASKER_DATABASE_URL=url).code == 0


def test_a_mistake_in_the_application_is_shown_where_it_is(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "import os\nos.nothing\n")
    ended = run("-A", "shop", "template", "register")
    assert ended.code == 1
    assert ended.err == (
        f"error: AttributeError: module 'os' has no attribute 'nothing' ({tmp_path}/shop.py:2); "
        "TASKER_DEBUG=1 shows the traceback\n"
    )


def test_a_module_that_is_not_there_is_an_error_of_the_command_line(run: Run) -> None:
    ended = run("-A", "shopp", "template", "register")
    assert ended.code == 1
    assert ended.err.startswith("error: -A shopp: there is no module shopp in ")


def test_db_status_migrate_and_sql_tell_one_story(run: Run, empty_database_url: str) -> None:
    def db(*arguments: str) -> Ended:
        return run("db", *arguments, TASKER_DATABASE_URL=empty_database_url)

    before = db("status", "-o", "json")
    assert before.code == 1
    assert before.json["revision"] is None
    assert not before.json["current"]
    assert "the database has no Tasker schema" in db("status").err
    script = db("sql").out
    assert script.startswith("begin;")
    assert script == run("db", "sql", "--empty", TASKER_DATABASE_URL=None).out
    assert db("migrate", "-o", "json").json["applied"] == before.json["pending"]
    assert db("migrate").err == "the database was current\n"
    after = db("status")
    assert (after.code, after.out) == (0, "current: revision 0001\n")
    assert db("sql").out == "-- Nothing to do: the database is current.\n"


def test_a_worker_on_a_schema_that_is_behind_names_the_command(
    run: Run, shop: str, empty_database_url: str
) -> None:
    ended = run("-A", shop, "worker", TASKER_DATABASE_URL=empty_database_url)
    assert ended.code == 1
    assert ended.err == "error: the database has no Tasker schema; run `tasker db migrate`\n"
