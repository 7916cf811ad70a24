"""Where each service runs by itself: passes what a page asks under /api on to the service that answers it, as a proxy would."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import httpx

from shared.problems import problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
DROPPED = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"})
"""Headers of one hop; the length is set anew."""


class Front:
    """An ASGI app for everything under `/api/<service>/`; guards and limits are those of the service behind."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses
        self.client = httpx.AsyncClient(timeout=httpx.Timeout(60, read=None, connect=2), limits=httpx.Limits(max_connections=200))

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        service = scope["path"].removeprefix("/api/").partition("/")[0]
        if service not in self.addresses:
            return await problem(404, "not-found", f"there is no service {service}")(scope, receive, send)
        target = self.addresses[service] + scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii")
        headers = [(n, v) for n, v in scope["headers"] if n.decode("latin-1") not in DROPPED]
        request = self.client.build_request(scope["method"], target, headers=headers, content=await _body(receive))
        try:
            answer = await self.client.send(request, stream=True)
        except httpx.TransportError:
            retry = {"Retry-After": "1"}
            return await problem(503, "busy", f"the {service} service does not answer", retry)(scope, receive, send)
        await _pass_on(answer, send)


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _pass_on(answer: httpx.Response, send: Callable[[Message], Awaitable[None]]) -> None:
    """The answer as it comes, bytes untouched, so that streams flow and packed bodies stay packed."""
    headers = [(n.lower(), v) for n, v in answer.headers.raw if n.decode("latin-1").lower() not in DROPPED]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    try:
        async for chunk in answer.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        await answer.aclose()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
