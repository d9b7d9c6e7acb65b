"""Real servers for the tests: one cluster per run, a template database per xdist worker, clones of it.

TASKER_TEST_DATABASE_URL and TASKER_TEST_REDIS_URL name running servers to use instead: the user must be a
superuser, whose password, if there is one, is not also its name; every logical database of that Redis may be
flushed. TASKER_TEST_POSTGRES names the major version to run: one of the embedded ones, or one installed under
/usr/lib/postgresql.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

from tasker.db.migrate import migrate
from tasker.dev.binaries import POSTGRES_FOLDERS
from tasker.dev.postgres import start_postgres
from tasker.dev.redis import start_redis

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell starts so what it runs in the background, and the commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# before anything imports them: what they assert for tests is explained when it fails
pytest.register_assert_rewrite("tests.acceptance", "tests.faults")

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

FAKE_CLOCK = Path(__file__).parent / "sql" / "fake_clock.sql"
REDIS_DATABASES = 16
MEMORY_NEEDED = 2 * 1024**3
FOLDER_PREFIX = "tasker-tests-"
ABANDONED_SECONDS = 60
LEAVING_SECONDS = 1.0


class Cluster(NamedTuple):
    """The servers of this run; `run` sets its databases apart from those of other runs."""

    database_url: str
    redis_url: str
    run: str

    def database(self, name: str) -> str:
        """The URL of another database of the cluster."""
        return urlsplit(self.database_url)._replace(path=f"/{name}").geturl()

    def redis_database(self, number: int) -> str:
        """The URL, in Celery's notation, of a logical database of the Redis server."""
        parts = urlsplit(self.redis_url)
        if parts.scheme == "redis+socket":
            return f"{parts.scheme}://{parts.path}?virtual_host={number}"
        return parts._replace(path=f"/{number}").geturl()


def postgres_major() -> int:
    """The major version the run asks for."""
    return int(os.environ.get("TASKER_TEST_POSTGRES", "18"))


def postgres_bin_dir(version: int) -> Path | None:
    """None for a version the embedded package has, else the folder of the system's package."""
    return None if version in POSTGRES_FOLDERS else Path(f"/usr/lib/postgresql/{version}/bin")


def quickest_folder() -> Path:
    """Memory where there is enough of it: copying a database takes 10 ms there, on a busy disk 200 ms."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made inside
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_NEEDED
    return memory if roomy else Path(tempfile.gettempdir())


@pytest.fixture
def temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder of this test that everybody can pass through, used as the system's temporary one.

    For embedded servers: what they leave where they put sockets, and data that PostgreSQL's user could not
    reach, goes with it.
    """
    folder = Path(tempfile.mkdtemp(prefix="t-", dir=quickest_folder()))
    folder.chmod(0o711)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _no_cluster_stays_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody but us can enter `tmp_path`: as root, a cluster made there lies elsewhere, and would stay.

    Tests that start PostgreSQL, or whose commands do, use `temp`.
    """
    yield
    links = [
        link
        for link in tmp_path_factory.getbasetemp().rglob("postgres-*")
        if link.is_symlink() and link.exists()
    ]
    for link in links:
        shutil.rmtree(link.readlink(), ignore_errors=True)
    assert links == []


def remove_abandoned(place: Path) -> None:
    """Free the memory of runs that were killed: nobody holds the lock in their folder any more."""
    for lock in place.glob(f"{FOLDER_PREFIX}*/lock"):
        with suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if time.time() - lock.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(lock.parent)


@contextmanager
def servers_folder() -> Iterator[tuple[Path, tuple[int, ...]]]:
    """A folder for servers, removed afterwards, and the descriptors that they hold while they use it."""
    place = quickest_folder()
    remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=place))
    try:
        folder.chmod(0o711)  # PostgreSQL runs as another user when the tests run as root
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder / "servers", (lock.fileno(),)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_postgres(folder: Path, held: tuple[int, ...]) -> AbstractContextManager[str]:
    """An empty PostgreSQL of the version that the run asks for; its URL."""
    version = postgres_major()
    bin_dir = postgres_bin_dir(version)
    return start_postgres(folder, version=version, bin_dir=bin_dir, durable=False, held=held)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """The configured servers, or fresh ones that end with this process and leave nothing behind."""
    with ExitStack() as stack:
        folder, held = stack.enter_context(servers_folder())
        database_url = os.environ.get("TASKER_TEST_DATABASE_URL")
        if database_url is None:
            database_url = stack.enter_context(fresh_postgres(folder, held))
        redis_url = os.environ.get("TASKER_TEST_REDIS_URL")
        if redis_url is None:
            redis_url = stack.enter_context(start_redis(folder, durable=False, held=held))
        yield Cluster(database_url, redis_url, uuid4().hex[:8])


CLUSTER = pytest.StashKey[Cluster]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the process that controls the xdist workers: start the cluster once and tell each worker."""
    config: pytest.Config = node.config
    if CLUSTER not in config.stash:
        stack = ExitStack()
        config.stash[CLUSTER] = stack.enter_context(running_cluster())
        config.add_cleanup(stack.close)
    shared: Cluster = config.stash[CLUSTER]
    node.workerinput["tasker_cluster"] = tuple(shared)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The servers of this run, shared by all xdist workers."""
    told = getattr(request.config, "workerinput", {}).get("tasker_cluster")
    if told is not None:
        yield Cluster(*told)
        return
    with running_cluster() as own:
        yield own


@pytest.fixture(scope="session")
def worker_number(request: pytest.FixtureRequest) -> int:
    """0, 1, 2, … in the order of xdist's workers; 0 without them."""
    name: str = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    return int(name.removeprefix("gw"))


@pytest.fixture(scope="session")
def admin(cluster: Cluster) -> Iterator[Connection]:
    """A connection that makes and drops databases."""
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        yield connection


class Databases:
    """Makes databases of this worker in the cluster, and drops them."""

    def __init__(self, cluster: Cluster, admin: Connection, worker_number: int) -> None:
        self._cluster = cluster
        self._admin = admin
        self._prefix = f"tasker_{cluster.run}_{worker_number}"
        self._numbers = count(1)

    @contextmanager
    def make(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, a copy of `template`; dropped at the end whoever is connected."""
        name = f"{self._prefix}_{next(self._numbers)}"
        create = sql.SQL("create database {} template {}").format(*map(sql.Identifier, (name, template)))
        self._admin.execute(create)
        try:
            yield self._cluster.database(name)
        finally:
            self._await_nobody(name)
            self._admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def _await_nobody(self, name: str) -> None:
        """Closed connections take a moment to leave; a drop that finds them waits eight times as long."""
        query = "select count(*) from pg_stat_activity where datname = %s"
        deadline = time.monotonic() + LEAVING_SECONDS
        while time.monotonic() < deadline and self._admin.execute(query, [name]).fetchone() != (0,):
            time.sleep(0.001)

    def freeze(self, name: str) -> None:
        """Turn away new connections to `name`: a copy fails while somebody is connected."""
        self._admin.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def databases(cluster: Cluster, admin: Connection, worker_number: int) -> Databases:
    """For a test that needs an empty database or several."""
    return Databases(cluster, admin, worker_number)


@pytest.fixture(scope="session")
def template_database(databases: Databases) -> Iterator[str]:
    """The name of a migrated database with the tests' clock, to be copied and never written to."""
    with databases.make() as url:
        migrate(url)
        if FAKE_CLOCK.exists():
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(FAKE_CLOCK.read_bytes())
        name = urlsplit(url).path.removeprefix("/")
        databases.freeze(name)
        yield name


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database of this test alone, without any schema of ours."""
    with databases.make() as url:
        yield url


@pytest.fixture
def database_url(databases: Databases, template_database: str) -> Iterator[str]:
    """A migrated database of this test alone, for tests with several connections or processes."""
    with databases.make(template_database) as url:
        yield url


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[[], Connection]]:
    """Opens further autocommit connections to `database_url`; all are closed after the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(psycopg.connect(database_url, autocommit=True))


@pytest.fixture
def connection(connect: Callable[[], Connection]) -> Connection:
    """An autocommit connection to `database_url`."""
    return connect()


@pytest.fixture(scope="session")
def shared_connection(databases: Databases, template_database: str) -> Iterator[Connection]:
    """The connection behind `session`; do not use it directly."""
    with databases.make(template_database) as url, psycopg.connect(url) as connection:
        yield connection


@pytest.fixture
def session(shared_connection: Connection) -> Iterator[Connection]:
    """A connection inside a transaction that is rolled back after the test: the cheap choice."""
    yield shared_connection
    shared_connection.rollback()


@pytest.fixture
def redis_url(cluster: Cluster, worker_number: int) -> Iterator[str]:
    """An empty logical Redis database of this worker alone, in Celery's notation."""
    url = cluster.redis_database(worker_number % REDIS_DATABASES)
    with redis_client_of(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of `redis_url`."""
    with redis_client_of(redis_url) as client:
        yield client


def redis_client_of(url: str) -> redis.Redis:
    """A client for a URL in Celery's notation."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return redis.Redis(unix_socket_path=parts.path, db=int(parts.query.removeprefix("virtual_host=")))
    return redis.Redis.from_url(url)
