"""The command line as it is typed: real processes, a real PostgreSQL and Redis."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import redis
from pydantic import SecretStr

from tasker.domain.templates import StepDefinition, TemplateDefinition
from tasker.orchestration.client import Tasker
from tasker.orchestration.templates import store
from tasker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OURS = ("TASKER_", "DATABASE_URL", "CELERY_", "PYTHON", "NO_COLOR")
SECONDS = 30

SHOP = """
from pathlib import Path
from tasker import PermanentError, TaskTemplate

fulfilment = TaskTemplate("orders/fulfilment", version="1.0.0")

@fulfilment.step
def validate(context: dict) -> dict:
    return {"ok": context["amount"] > 0}

@fulfilment.step
def reserve(validate: dict) -> str:
    return "shelf 4"

@fulfilment.step
def charge(validate: dict) -> str:
    if not Path("card").exists():
        raise PermanentError("no card")
    return "paid"

@fulfilment.step
def ship(reserve: str, charge: str) -> str:
    return f"{charge}, from {reserve}"
"""
CELERY = """
import os
from celery import Celery
from tasker import Tasker

app = Celery("shop", broker=os.environ["TASKER_BROKER_URL"])
tasks = Tasker(celery=app)
"""
CELERY_PROGRAM = (
    "from celery.bin.celery import celery; celery(auto_envvar_prefix='CELERY', prog_name='celery')"
)
TASK_KEYS = [
    "task_id",
    "template",
    "version",
    "state",
    "execution_status",
    "created",
    "context",
    "steps",
    "started_at",
    "finished_at",
]
UNKNOWN = "01981f6e-7c1a-7cc3-98c4-dc0c0c07398f"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


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


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run `tasker` in an empty folder; further keywords are environment variables, None to remove one."""

    def run(*arguments: str, input: str | None = None, **variables: str | None) -> Ended:  # noqa: A002
        merged = {**environment, **variables}
        ended = subprocess.run(
            [sys.executable, "-m", "tasker", *arguments],
            cwd=tmp_path,
            env={name: value for name, value in merged.items() if value is not None},
            input=input,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The name of a module with one template, a diamond."""
    write(tmp_path / "shop.py", SHOP)
    return "shop"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))


# --- settings -------------------------------------------------------------------------------------


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


def test_a_command_without_a_database_says_how_to_name_one(run: Run) -> None:
    ended = run("db", "status", TASKER_DATABASE_URL=None)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(
        "error: no database: set TASKER_DATABASE_URL (or DATABASE_URL), or run `tasker dev`"
    )


# --- errors ---------------------------------------------------------------------------------------


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
    connection.execute("create role clerk login")
    try:
        separator = "&" if "?" in database_url else "?"
        ended = run("template", "list", TASKER_DATABASE_URL=f"{database_url}{separator}user=clerk")
        assert ended.code == 5
        assert "permission denied" in ended.err
    finally:
        connection.execute("drop role clerk")


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


# --- schema ---------------------------------------------------------------------------------------


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


# --- templates ------------------------------------------------------------------------------------


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


# --- tasks, while nobody works on them ----------------------------------------------------------------


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


STORED = "orders/fulfilment"


def test_submit_prints_an_id_and_tells_a_repeated_key_from_a_conflicting_one(
    run: Run, tasks: Tasker, tmp_path: Path
) -> None:
    write(tmp_path / "order.json", '{"amount": 3}')
    first = run("task", "submit", STORED, "--context", "@order.json", "--idempotency-key", "order-1")
    assert first.code == 0
    again = run(
        "task",
        "submit",
        STORED,
        "-c",
        "-",
        "--idempotency-key",
        "order-1",
        "-o",
        "json",
        input='{"amount":3}',
    )
    assert again.json["task_id"] == first.out.strip()
    assert again.json["created"] is False
    assert list(again.json) == TASK_KEYS
    assert again.json["steps"][0] == {
        "name": "validate",
        "state": "enqueued",
        "attempt": 0,
        "result": None,
        "error": None,
    }
    other = run("task", "submit", STORED, "-c", '{"amount": 4}', "--idempotency-key", "order-1")
    assert (other.code, other.out) == (4, "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "the text is not JSON: "),
        ("[1]", "the text must be a JSON object"),
        ("@nowhere.json", "nowhere.json cannot be read: No such file or directory"),
    ],
)
def test_a_context_that_is_no_json_object_is_a_mistake_in_the_command(
    run: Run, given: str, said: str
) -> None:
    ended = run("task", "submit", "orders/fulfilment", "--context", given)
    assert ended.code == 2
    assert said in ended.err


def test_what_does_not_exist_is_exit_code_3(run: Run) -> None:
    for arguments in (
        ["task", "show", UNKNOWN],
        ["step", "show", f"{UNKNOWN}/charge"],
        ["task", "submit", "no/such"],
    ):
        ended = run(*arguments)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith("error: no ")


def test_waiting_too_long_and_waiting_for_a_cancelled_task_have_their_own_exit_codes(
    run: Run, tasks: Tasker, connection: psycopg.Connection[Any]
) -> None:
    task = str(tasks.submit(STORED).id)
    late = run("task", "wait", task, "--timeout", "0.05s")
    assert late.code == 124
    assert f"`tasker task why {task}`" in late.err
    why = run("task", "why", task).out
    assert "no live worker serves that queue" in why
    assert "ship waits for its parents: reserve (pending), charge (pending)" in why
    reason = run("task", "cancel", task, "--reason", "ordered twice", "-o", "json")
    assert reason.json == {"task_id": task, "state": "cancelled"}
    waited = run("task", "wait", task, "-o", "json")
    assert (waited.code, waited.json["state"], list(waited.json)) == (11, "cancelled", TASK_KEYS)
    assert run("task", "retry", task).code == 4
    log = connection.execute("select actor, reason from tasker.transitions where to_state = 'cancelled'")
    assert {(actor.partition("@")[0], why) for actor, why in log} == {("ann", "ordered twice")}


def test_tasks_are_listed_by_what_they_are_page_by_page(run: Run, tasks: Tasker) -> None:
    for tag in ("red", "red", "blue"):
        tasks.submit(STORED, tags=[tag])
    assert run("task", "submit", STORED, "--run-after", "1h", "--tag", "red").code == 0
    first = run("task", "list", "--tag", "red", "--limit", "2", "-o", "json").json
    rest = run("task", "list", "--tag", "red", "--cursor", first["next_cursor"], "-o", "json").json
    assert [item["state"] for item in first["items"] + rest["items"]] == [
        "pending",
        "in_progress",
        "in_progress",
    ]
    assert rest["next_cursor"] is None
    lines = run(
        "task", "list", "--state", "in_progress", "--since", "5m", "--template", STORED
    ).out.splitlines()
    assert lines[0].split() == ["TASK", "TEMPLATE", "STATE", "DONE", "CREATED", "TAGS"]
    assert [line.split()[-1] for line in lines[1:]] == ["blue", "red", "red"]
    assert all(len(line.split()[0]) == len(UNKNOWN) for line in lines[1:])


# --- tasks and the worker that runs them --------------------------------------------------------------


@contextmanager
def working(environment: dict[str, str], folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A worker that is ready; it is told to stop at the end, and must end well."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            said = list(until_ready(process.stdout))
            assert any("ready" in line for line in said), "".join(said)
            yield process
            process.terminate()
            process.communicate(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def until_ready(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if "ready" in line:
            return


def test_a_failed_step_is_explained_retried_and_waited_for(
    run: Run, environment: dict[str, str], shop: str, tmp_path: Path
) -> None:
    worker = ("tasker", "-A", shop, "worker", "--concurrency", "1", "--queues", "celery")
    with working(environment, tmp_path, *worker) as process:
        submitted = run("task", "submit", "orders/fulfilment", "-c", '{"amount": 3}', "--wait", "-o", "json")
        assert (submitted.code, submitted.json["state"], submitted.json["created"]) == (10, "error", True)
        task = submitted.json["task_id"]
        assert "charge failed (failure 1 of 3: PermanentError: no card)" in run("task", "why", task).out
        shown = run("step", "show", f"{task}/charge")
        assert "PermanentError: no card" in shown.out.splitlines()[-1]
        assert run("step", "show", f"{task}/charge", "-o", "json").json["attempts"][0]["outcome"] == "error"
        assert run("step", "retry", f"{task}/reserve").code == 4
        write(tmp_path / "card", "")
        assert run("step", "retry", f"{task}/charge").out == f"{task}/charge is retried\n"
        waited = run("task", "wait", task, "--timeout", "20s", "-o", "json")
        assert (waited.code, waited.json["steps"][3]["result"]) == (0, "paid, from shelf 4")
        assert run("task", "why", task).out == "the task is complete; nothing is unfinished\n"
        assert run("doctor").code == 0
    assert process.returncode == 0


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_run_steps_too(
    run: Run, environment: dict[str, str], shop: str, tmp_path: Path, pool: str
) -> None:
    write(tmp_path / "card", "")
    with working(environment, tmp_path, "tasker", "-A", shop, "worker", "--pool", pool):
        ended = run(
            "task", "submit", "orders/fulfilment", "-c", '{"amount": 3}', "--wait", "--timeout", "20s"
        )
        assert ended.code == 0
        assert "paid, from shelf 4" in ended.out


def test_a_coordinator_of_its_own_says_that_it_is_ready_and_ends_when_told(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    with working(environment, tmp_path, "tasker", "coordinator") as process:
        (check,) = [
            each for each in run("doctor", "-o", "json").json["findings"] if each["name"] == "coordinator"
        ]
        assert check["ok"]
    assert process.returncode == 0


# --- below Celery ---------------------------------------------------------------------------------


@pytest.fixture
def below_celery(run: Run, environment: dict[str, str], tmp_path: Path) -> Run:
    """Run `celery -A shop …`, which finds our commands by their entry point, of an installation made here."""
    write(tmp_path / "shop.py", CELERY + SHOP)
    entry = "[celery.commands]\ntasker = tasker.cli.celery_plugin:tasker\n"
    write(tmp_path / "tasker_engine-0.dist-info" / "entry_points.txt", entry)
    write(tmp_path / "tasker_engine-0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: tasker-engine\n")

    def celery(*arguments: str) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-c", CELERY_PROGRAM, *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return celery


def test_the_same_commands_stand_below_celery(below_celery: Run) -> None:
    assert "tasker" in below_celery("--help").out
    assert (
        below_celery("-A", "shop", "tasker", "template", "register").out
        == "orders/fulfilment@1.0.0 is stored\n"
    )
    assert below_celery("-A", "shop", "tasker", "task", "show", UNKNOWN).code == 3
    nameless = below_celery("tasker", "template", "validate")
    assert nameless.code == 2
    assert "celery -A MODULE tasker template validate" in nameless.err


def test_a_celery_worker_can_leave_the_loops_to_others(below_celery: Run) -> None:
    assert "--no-coordinator" in below_celery("-A", "shop", "worker", "--help").out


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_names_what_is_wrong_and_the_remedy(
    run: Run, redis_client: redis.Redis, tmp_path: Path
) -> None:
    write(tmp_path / "shop.py", CELERY + SHOP)
    before = redis_client.config_get("maxmemory-policy")["maxmemory-policy"]
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ended = run("-A", "shop", "doctor", "-o", "json", TASKER_LOG_LEVLE="DEBUG")
    finally:
        redis_client.config_set("maxmemory-policy", before)
    assert ended.code == 1
    assert not ended.json["ok"]
    wrong = {each["name"]: each for each in ended.json["findings"] if not each["ok"]}
    assert wrong.keys() == {"settings", "coordinator", "broker_memory"}
    assert wrong["broker_memory"]["remedy"] == "set maxmemory-policy to noeviction"
    assert "did you mean TASKER_LOG_LEVEL?" in wrong["settings"]["text"]
    advice = [each["text"] for each in ended.json["findings"] if each["ok"] and each["remedy"]]
    assert [text.partition(" is ")[0] for text in advice] == ["worker_prefetch_multiplier"]


def test_doctor_goes_on_where_servers_are_away(run: Run) -> None:
    away = "localhost:1"
    ended = run(
        "doctor", TASKER_DATABASE_URL=f"postgresql://{away}/shop", TASKER_BROKER_URL=f"redis://{away}/0"
    )
    assert ended.code == 1
    wrong = [line for line in ended.out.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 2
    assert "PostgreSQL does not answer" in wrong[0]
    assert f"the broker redis://{away}/0 does not answer" in wrong[1]


# --- terminals ------------------------------------------------------------------------------------


def test_a_terminal_shows_signs_and_colours_and_a_pipe_shows_neither(
    run: Run, environment: dict[str, str], tasks: Tasker, tmp_path: Path
) -> None:
    task = str(tasks.submit(STORED).id)
    coloured = on_terminal(environment, tmp_path, "task", "graph", task)
    assert "validate    \x1b[36m◔ enqueued\x1b[0m" in coloured
    assert "└─ ship" in coloured
    listed = on_terminal({**environment, "COLUMNS": "40"}, tmp_path, "task", "list")
    assert task in listed
    plain = on_terminal({**environment, "NO_COLOR": "1"}, tmp_path, "task", "graph", task)
    assert "validate    ◔ enqueued" in plain
    assert "\x1b" not in run("task", "show", task).out


def on_terminal(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    """What `tasker` prints when standard output is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tasker", *arguments],
        cwd=folder,
        env={**environment, "TERM": "xterm-256color"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # how the end of a terminal looks from here
            while chunk := os.read(ours, 4096):
                written += chunk
        os.close(ours)
        assert process.wait(SECONDS) == 0
    return written.decode().replace("\r\n", "\n")
