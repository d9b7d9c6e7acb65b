"""A wire that a test can cut: a proxy between the product and PostgreSQL or Redis.

It listens on a unix socket, whatever the server does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from tests.faults.wire import PostgresWire, RedisWire, Wire

CHUNK = 1 << 16
WAIT_SECONDS = 20.0


Target: TypeAlias = Path | tuple[str, int]
"""A socket, or host and port."""


class Cut(Enum):
    """Where a wire is cut, seen from one request."""

    BEFORE = "the request never arrives"
    UNCOMMITTED = "it is carried out, and its transaction is not committed"
    AFTER = "it is carried out and committed; the reply never arrives"
    SILENCE = "it is carried out and committed; the reply never arrives, and the connection stays open"


class Planned:
    """A cut that is to happen at the nth request that asks for some text."""

    def __init__(self, asks: str, where: Cut, nth: int) -> None:
        self.asks = asks
        self.where = where
        self.left = nth
        self.happened = threading.Event()

    def wait(self) -> None:
        """Return once it has happened."""
        assert self.happened.wait(WAIT_SECONDS), f"nothing asked for {self.asks}, so nothing was cut"


class Proxy:
    """Forwards connections from a socket of its own to `target`; all its switches may be used at any time.

    `latency_seconds` delays every chunk, in both directions. While `refusing`, new connections are closed at
    once.
    """

    def __init__(self, target: Target, wire: Callable[[], Wire]) -> None:
        self.latency_seconds = 0.0
        self.refusing = False
        self.carried = 0
        self._target = target
        self._wire = wire
        self._planned: list[Planned] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @contextmanager
    def listening(self, path: Path) -> Iterator[None]:
        """Serve `path` for the length of the block."""
        thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        thread.start()
        server = self._call(asyncio.start_unix_server(self._serve, path))
        path.chmod(0o777)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(server.close)
            self.heal()
            self.cut()
            self._call(self._finish())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def plan(self, asks: str, where: Cut, nth: int = 1) -> Planned:
        """Cut at the nth request from now on that contains `asks`, once."""
        planned = Planned(asks, where, nth)
        self._planned.append(planned)
        return planned

    def cut(self) -> None:
        """Close every connection there is."""
        self._call(self._close_all())

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody gets through for the length of the block: connections are closed, and new ones refused."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    def blackhole(self) -> None:
        """Take everything and pass nothing on, until healed."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self) -> None:
        """Let everything flow again that was held back."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    async def _close_all(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _finish(self) -> None:
        await self._close_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = {writer}
        self._open.add(writer)
        try:
            if not self.refusing:
                up_reader, up_writer = await _connected(self._target)
                ends.add(up_writer)
                self._open.add(up_writer)
                await _Carried(self, self._wire()).carry(reader, writer, up_reader, up_writer)
        except OSError:
            pass  # either end is gone, which is what wires do here
        finally:
            for end in ends:
                self._open.discard(end)
                end.transport.abort()
            self._tasks.discard(task)

    async def held_up(self) -> None:
        """What a chunk goes through before it is passed on."""
        self.carried += 1
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        await self._flowing.wait()

    def due(self, asks: str) -> Planned | None:
        """The cut that is to happen at this request."""
        for planned in self._planned:
            if planned.asks in asks:
                planned.left -= 1
                if planned.left == 0:
                    self._planned.remove(planned)
                    return planned
        return None

    def put_back(self, planned: Planned) -> None:
        """The request came to nothing (an empty queue), so the next one of its kind is meant."""
        planned.left = 1
        self._planned.append(planned)


async def _connected(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(*target)


class _Carried:
    """One connection and what is to happen to it."""

    def __init__(self, proxy: Proxy, wire: Wire) -> None:
        self._proxy = proxy
        self._wire = wire
        self._due: Planned | None = None

    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        pumps = [
            asyncio.ensure_future(self._up(reader, up_writer)),
            asyncio.ensure_future(self._down(up_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await asyncio.gather(*pumps)

    async def _up(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._proxy.held_up()
            if up.transport.is_closing():
                return
            for request, asks in self._wire.requests(data):
                due = self._proxy.due(asks)
                sent = request
                if due is not None:
                    if due.where is Cut.BEFORE:
                        due.happened.set()
                        return
                    self._due = due
                    if due.where is Cut.UNCOMMITTED:
                        sent = self._wire.without_commit(request)
                up.write(sent)
            await up.drain()

    async def _down(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await up.read(CHUNK):
            await self._proxy.held_up()
            if writer.transport.is_closing():
                return
            for reply, asks, done in self._wire.replies(data):
                due = self._due
                if due is None or due.asks not in asks:
                    writer.write(reply)
                elif not done and isinstance(self._wire, RedisWire):
                    writer.write(reply)
                    self._due = None
                    self._proxy.put_back(due)
                elif done:
                    due.happened.set()
                    if due.where is not Cut.SILENCE:
                        return
            await writer.drain()


@contextmanager
def postgres_proxy(database_url: str, folder: Path) -> Iterator[tuple[str, Proxy]]:
    """A proxy in front of the server of this URL, with its socket in `folder`; the URL that leads through."""
    server = conninfo_to_dict(database_url)
    host, port = str(server["host"]), int(server.get("port", 5432))
    proxy = Proxy(Path(host, f".s.PGSQL.{port}") if host.startswith("/") else (host, port), PostgresWire)
    parts = urlsplit(database_url)
    user = parts.netloc.rpartition("@")[0]
    through = parts._replace(netloc=f"{user}@", query=f"host={folder}").geturl()
    with proxy.listening(folder / ".s.PGSQL.5432"):
        yield through, proxy


@contextmanager
def redis_proxy(broker_url: str, folder: Path) -> Iterator[tuple[str, Proxy]]:
    """A proxy in front of the server of this URL, with its socket in `folder`; the URL that leads through."""
    parts = urlsplit(broker_url)
    on_socket = parts.scheme == "redis+socket"
    target = Path(parts.path) if on_socket else (str(parts.hostname), parts.port or 6379)
    number = parts.query.removeprefix("virtual_host=") if on_socket else parts.path.strip("/")
    proxy = Proxy(target, RedisWire)
    through = folder / "redis.sock"
    with proxy.listening(through):
        yield f"redis+socket://{through}?virtual_host={number or 0}", proxy
