"""What passes over the wires of PostgreSQL and Redis, cut into requests and replies."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Protocol

HEADER_BYTES = 5
SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"


class Wire(Protocol):
    """One connection's reader. Both directions keep what is not whole yet until more arrives."""

    def requests(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """Whole requests of the client, each with what it asks for."""

    def replies(self, data: bytes) -> Iterator[tuple[bytes, str, bool]]:
        """Whole parts of replies, each with the request it belongs to and whether it ends with this part."""

    def without_commit(self, request: bytes) -> bytes:
        """The request so that it is carried out and not committed, where a protocol knows the difference."""


class PostgresWire:
    """Frontend and backend messages; a request is everything up to a Sync or a simple Query."""

    def __init__(self) -> None:
        self._sent, self._received = b"", b""
        self._request = b""
        self._asks = ""
        self._statements: dict[bytes, str] = {}
        self._awaited: deque[str] = deque()
        self._started = False

    def requests(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        self._sent += data
        if not self._started:
            if len(self._sent) < 4 or len(self._sent) < (size := struct.unpack("!i", self._sent[:4])[0]):
                return
            hello, self._sent, self._started = self._sent[:size], self._sent[size:], True
            self._awaited.append("connect")
            yield hello, "connect"
        for kind, message in _messages(self._sent):
            self._sent = self._sent[len(message) :]
            self._request += message
            self._note(kind, message[HEADER_BYTES:])
            if kind in b"QSXpF":
                whole, asks, self._request, self._asks = self._request, self._asks, b"", ""
                if kind in b"QSF":
                    self._awaited.append(asks)
                yield whole, asks

    def replies(self, data: bytes) -> Iterator[tuple[bytes, str, bool]]:
        self._received += data
        for kind, message in _messages(self._received):
            self._received = self._received[len(message) :]
            asks = self._awaited[0] if self._awaited else ""
            if kind == b"Z" and self._awaited:
                self._awaited.popleft()
            # the command is complete; what follows is the answer to Sync, which has committed
            yield message, asks, kind in b"ZC" if self._flushing(asks) else kind == b"Z"

    def without_commit(self, request: bytes) -> bytes:
        """Flush in the place of Sync: the statement runs, and its implicit transaction stays open."""
        assert request.endswith(SYNC), "only the extended protocol can be held before its commit"
        self._held = self._awaited[-1]
        return request.removesuffix(SYNC) + FLUSH

    _held: str | None = None

    def _flushing(self, asks: str) -> bool:
        return self._held is not None and self._held == asks

    def _note(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            self._asks = body.rstrip(b"\0").decode()
        elif kind == b"P":
            name, text = body.split(b"\0")[:2]
            self._statements[name] = text.decode()
        elif kind == b"B":
            self._asks = self._statements.get(body.split(b"\0")[1], "")


class RedisWire:
    """Commands and replies of RESP; a request asks for its command and its first argument."""

    def __init__(self) -> None:
        self._sent, self._received = b"", b""
        self._awaited: deque[str] = deque()

    def requests(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        self._sent += data
        while end := _resp_end(self._sent, 0):
            request, self._sent = self._sent[:end], self._sent[end:]
            words = request.split(b"\r\n")[2:5:2]
            asks = b" ".join(words).decode(errors="replace")
            self._awaited.append(asks)
            yield request, asks

    def replies(self, data: bytes) -> Iterator[tuple[bytes, str, bool]]:
        self._received += data
        while end := _resp_end(self._received, 0):
            reply, self._received = self._received[:end], self._received[end:]
            asks = self._awaited.popleft() if self._awaited else ""
            # a wait that ended with nothing has not done anything that could get lost
            yield reply, asks, not reply.startswith((b"*-1", b"$-1", b"_"))

    def without_commit(self, request: bytes) -> bytes:
        raise AssertionError(f"Redis does at once what it is asked: {request!r}")


def _messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Whole typed messages at the start of `data`."""
    at = 0
    while len(data) - at >= HEADER_BYTES:
        size = 1 + struct.unpack_from("!i", data, at + 1)[0]
        if len(data) - at < size:
            return
        yield data[at : at + 1], data[at : at + size]
        at += size


def _resp_end(data: bytes, at: int) -> int:
    """Where the RESP value that begins at `at` ends; 0 when it is not whole."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return 0
    kind, rest = data[at : at + 1], line_end + 2
    if kind in b"+-:_#,(":
        return rest
    size = int(data[at + 1 : line_end])
    if kind in b"$=!":
        end = rest if size < 0 else rest + size + 2
        return end if end <= len(data) else 0
    for _ in range(max(size, 0) * (2 if kind == b"%" else 1)):
        rest = _resp_end(data, rest)
        if not rest:
            return 0
    return rest
