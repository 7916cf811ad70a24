"""Where each service runs by itself: passes what a page asks under /api on to the service that answers it, as a proxy would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import httpx

from shared.problems import problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
DROPPED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length", "expect"}
    | {"x-forwarded-for"}
)  # fmt: skip
"""Headers of one hop; length and address of the caller are set anew."""


class Front:
    """An ASGI app for everything under `/api/<service>/`; guards and limits are those of the service behind."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses
        # The machine's own settings of proxies are for the way out, not for the way to the process beside.
        self.client = httpx.AsyncClient(
            timeout=httpx.Timeout(60, read=None, connect=2), limits=httpx.Limits(max_connections=200), trust_env=False
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = scope["path"].removeprefix("/api/").partition("/")[0]
        if service not in self.addresses:
            return await problem(404, "not-found", f"there is no service {service}")(scope, receive, send)
        body = await _body(receive)
        if body is None:
            return
        request = _request(self.addresses[service], scope, body)
        try:
            answer = await self.client.send(request, stream=True)
        except httpx.TransportError:
            retry = {"Retry-After": "1"}
            return await problem(503, "busy", f"the {service} service does not answer", retry)(scope, receive, send)
        await _pass_on(answer, receive, send)


def _request(address: str, scope: Scope, body: bytes) -> httpx.Request:
    """The request as it came, path and query byte for byte; no header is added but where it comes from."""
    headers = [(n, v) for n, v in scope["headers"] if n.decode("latin-1") not in DROPPED]
    if scope.get("client"):
        # The service counts by the caller's address, which is not ours; what the caller says of it himself is not believed.
        headers.append((b"x-forwarded-for", scope["client"][0].encode()))
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return httpx.Request(scope["method"], address, headers=headers, content=body, extensions={"target": target})


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the caller went away before its end, since half of it says something else."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _pass_on(answer: httpx.Response, receive: Receive, send: Send) -> None:
    """The answer as it comes until it or the caller ends: a stream that nobody hears any more would hold its place for ever."""
    copying, leaving = asyncio.create_task(_copy(answer, send)), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({copying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if copying.done():
            copying.result()
    finally:
        copying.cancel()
        leaving.cancel()
        await asyncio.gather(copying, leaving, return_exceptions=True)
        await answer.aclose()


async def _copy(answer: httpx.Response, send: Send) -> None:
    """Bytes untouched, so that streams flow and packed bodies stay packed."""
    headers = [(n.lower(), v) for n, v in answer.headers.raw if n.decode("latin-1").lower() not in DROPPED]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for chunk in answer.aiter_raw():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
