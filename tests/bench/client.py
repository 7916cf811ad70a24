"""A cheap HTTP/1.1 client: hand-written requests on keep-alive connections, so that the load costs the machine little."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
PATIENCE = 30.0
"""Seconds after which an unanswered request is an error."""


@dataclass(slots=True)
class Answer:
    """What came back: when the request was due and when it was answered, in seconds of the monotonic clock."""

    due: float
    done: float
    status: int
    body: bytes


class Wire(asyncio.Protocol):
    """One connection with at most one request under way. Understands answers with a content length, as our nodes give them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None or self._waiting.done():
            return
        length = _LENGTH.search(self._buffer, 0, end)
        if length is None:
            self._waiting.set_exception(ConnectionError(f"an answer without a length: {self._buffer[:200]!r}"))
            return
        whole = end + 4 + int(length[1])
        if len(self._buffer) >= whole:
            answer = int(self._buffer[9:12]), self._buffer[end + 4 : whole]
            self._buffer = self._buffer[whole:]
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionError("the node closed the connection"))

    async def ask(self, request: bytes, due: float | None = None) -> Answer:
        """Send and await the answer. Raises ConnectionError, TimeoutError."""
        due = perf_counter() if due is None else due
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(PATIENCE):
            status, body = await self._waiting
        return Answer(due, perf_counter(), status, body)

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Wire:
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    return wire


def get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def post(path: str, body: bytes, key: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def closed_loop(port: int, requests: Iterable[bytes], connections: int) -> list[Answer]:
    """Each connection sends its next request as soon as the one before is answered."""
    shared, answers = iter(requests), list[Answer]()

    async def work(wire: Wire) -> None:
        for request in shared:
            answers.append(await wire.ask(request))
        wire.close()

    wires = [await connect(port) for _ in range(connections)]
    await asyncio.gather(*(work(w) for w in wires))
    return answers


async def open_loop(port: int, requests: Sequence[bytes], rate: float, begin: float, connections: int = 64) -> list[Answer]:
    """Requests at fixed moments, whatever became of those before; one that finds no free connection waits, and that counts.

    `begin` is the moment of the first on the monotonic clock, `rate` the number a second.
    """
    idle: asyncio.Queue[Wire] = asyncio.Queue()
    for _ in range(connections):
        idle.put_nowait(await connect(port))

    async def one(request: bytes, due: float) -> Answer:
        wire = await idle.get()
        try:
            return await wire.ask(request, due)
        finally:
            idle.put_nowait(wire)

    tasks = []
    for index, request in enumerate(requests):
        due = begin + index / rate
        await asyncio.sleep(max(0.0, due - perf_counter()))
        tasks.append(asyncio.create_task(one(request, due)))
    answers = await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait().close()
    return answers
