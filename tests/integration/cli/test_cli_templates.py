"""`tasker template`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from tests.integration.cli.typed import SHOP, Run, write


def test_template_validate_reports_every_problem_of_every_file_and_stores_nothing(
    run: Run, tmp_path: Path, shop: str, connection: psycopg.Connection[Any]
) -> None:
    step = "  - {{name: {}, handler: {}, depends_on: [{}]}}\n"
    head = "name: orders/{}\nversion: 1.0.0\nsteps:\n"
    known = "orders/fulfilment.validate"
    nearest = f'; did you mean "{known}"?'
    write(tmp_path / "flows/a.yaml", head.format("a") + step.format("one", known, "two"))
    write(tmp_path / "flows/b.yaml", head.format("b") + step.format("one", known[:-1], ""))
    write(tmp_path / "good.yaml", head.format("good") + step.format("validate", known, ""))
    ended = run("-A", shop, "template", "validate", "flows", "good.yaml")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        'error: flows/a.yaml:4: step "one", depends_on: "two" is not a step of this template',
        f'error: flows/b.yaml:4: step "one", handler: no handler is registered as "{known[:-1]}"{nearest}',
    ]
    assert ended.out == "orders/good@1.0.0 is valid\n"
    assert connection.execute("select count(*) from tasker.templates").fetchone() == (0,)


def test_a_step_that_cannot_be_declared_is_the_only_problem_and_has_its_line(
    run: Run, tmp_path: Path
) -> None:
    write(
        tmp_path / "shop.py",
        "from tasker import Retry, TaskTemplate\n"
        "t = TaskTemplate('orders/fulfilment', version='1.0.0')\n"
        "@t.step(retry=Retry(max_attempts=0, backoff='expo'))\n"
        "def charge(): ...\n",
    )
    ended = run("-A", "shop", "template", "validate")
    assert ended.code == 1
    assert [line.partition(", not")[0] for line in ended.err.splitlines()] == [
        "error: shop.py:3: retry max_attempts: must be a whole number from 1 (no retry) to 100000",
        "error: shop.py:3: retry backoff: 'expo' is none of none, constant, linear, exponential, fibonacci",
    ]


def test_a_stored_template_is_listed_shown_and_drawn(run: Run, shop: str) -> None:
    assert run("template", "list").err.startswith("no template is stored")
    assert run("-A", shop, "template", "register", "-o", "json").json == {
        "stored": ["orders/fulfilment@1.0.0"],
        "unchanged": [],
    }
    assert run("-A", shop, "template", "register").out == "orders/fulfilment@1.0.0 was stored before\n"
    (listed,) = run("template", "list", "-o", "json").json["items"]
    assert (listed["template"], listed["version"], listed["steps_total"]) == ("orders/fulfilment", "1.0.0", 4)
    shown = run("template", "show", "orders/fulfilment").out
    assert "ship      orders/fulfilment.ship      reserve, charge" in shown
    assert run("template", "graph", "orders/fulfilment").out.startswith("flowchart TD\n")
    assert run("template", "graph", "orders/fulfilment", "-o", "tree").out.splitlines() == [
        "validate",
        "├─ reserve",
        "├─ charge",
        "└─ ship     after reserve, charge",
    ]
    missing = run("template", "show", "orders/fulfilmet")
    assert missing.code == 3
    assert 'did you mean "orders/fulfilment"?' in missing.err


def test_files_are_stored_without_the_other_templates_of_their_module(
    run: Run, shop: str, tmp_path: Path
) -> None:
    step = "{name: validate, handler: orders/fulfilment.validate}"
    write(tmp_path / "quick.yaml", f"name: orders/quick\nversion: 1.0.0\nsteps: [{step}]\n")
    assert run("-A", shop, "template", "register", "quick.yaml").out == "orders/quick@1.0.0 is stored\n"
    assert [each["template"] for each in run("template", "list", "-o", "json").json["items"]] == [
        "orders/quick"
    ]


def test_every_command_that_reads_templates_holds_them_to_the_limits_of_its_settings(
    run: Run, shop: str, tmp_path: Path
) -> None:
    said = "4 steps are over the limit of 3"
    few = {"TASKER_TEMPLATE_MAX_STEPS": "3"}
    for command in (["template", "validate"], ["template", "register"], ["worker"]):
        ended = run("-A", shop, *command, **few)
        assert (ended.code, said in ended.err) == (1, True), ended
    write(tmp_path / "hello.yaml", "name: hello\nversion: 1.0.0\nsteps: [{name: validate, handler: x}]\n")
    write(tmp_path / "files.py", "from tasker import load_templates\nload_templates('hello.yaml')\n")
    write(tmp_path / "tasker.yaml", "template_max_bytes: 20\n")
    for command in (["template", "validate"], ["worker"]):
        ended = run("--config", "tasker.yaml", "-A", "files", *command)
        assert (ended.code, "hello.yaml: larger than 20 bytes" in ended.err) == (1, True), ended


def test_a_changed_template_is_refused_with_what_differs_and_the_version_to_give(
    run: Run, shop: str, tmp_path: Path
) -> None:
    assert run("-A", shop, "template", "register").code == 0
    declared = "@fulfilment.step\ndef charge"
    assert declared in SHOP
    write(tmp_path / "shop.py", SHOP.replace(declared, '@fulfilment.step(queue="slow")\ndef charge'))
    ended = run("-A", shop, "template", "register")
    assert ended.code == 4
    assert ended.err.splitlines() == [
        "error: template orders/fulfilment@1.0.0 is stored with another definition:",
        "    charge.queue: nothing -> 'slow'",
        "  give it version 1.0.1",
    ]
