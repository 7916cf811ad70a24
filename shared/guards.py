"""What stands before every route, as plain ASGI: measuring, limits on size and time of a body, and on asking too often."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.routing import APIRoute
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException

from shared.problems import problem
from shared.telemetry import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MANY = 10_000
"""Credentials that are remembered as good."""
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"))


class Measured:
    """Counts and times answers by route template, never by path: a path may hold what a caller typed."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in HEADERS if n not in there)]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = scope.get("route")
            name = route.path if isinstance(route, APIRoute) else "<unmatched>"
            self.metrics.requests.labels(name, str(status)).inc()
            self.metrics.seconds.labels(name).observe(time.perf_counter() - begun)


CLOSE = {"Connection": "close"}
"""Said where a body is left unread: what follows on this connection would be taken for it."""


class Patience:
    """Ends a request whose body is longer than `size` bytes or takes longer than `seconds` to arrive.

    So nobody holds a node by sending slowly, or fills it. Both are HTTP errors, because whoever reads bodies takes any other
    error for a body that cannot be read.
    """

    def __init__(self, app: App, seconds: float, size: int) -> None:
        self.app, self.seconds, self.size = app, seconds, size
        self.slow = f"the body did not arrive within {seconds:g} s"
        self.large = f"a body has at most {size} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared[:18]) > self.size:
            return await problem(413, "too-large", self.large, CLOSE)(scope, receive, send)
        until = time.monotonic() + self.seconds
        whole, length = False, 0

        async def awaited() -> Message:
            nonlocal whole, length
            if whole:
                # After the body this only tells that the client went away, which a stream may wait for as long as it likes.
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, until - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, self.slow, CLOSE) from None
            length += len(message.get("body", b""))
            if length > self.size:
                raise HTTPException(413, self.large, CLOSE)
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        await self.app(scope, awaited, send)


class Limited:
    """Refuses a caller who asks more often than `rate` (such as "600/minute"): by credential, else by address.

    A credential counts on its own only once it was answered with something other than 401: made-up ones count by address.
    """

    def __init__(self, app: App, named: str, nameless: str) -> None:
        self.app = app
        self.named, self.nameless = parse(named), parse(nameless)
        self.counts = FixedWindowRateLimiter(MemoryStorage())
        self.good: dict[str, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            return await self.app(scope, receive, send)
        address, credential = _caller(scope)
        item, caller = (self.named, credential) if credential in self.good else (self.nameless, address)
        if self.counts.hit(item, caller):
            return await self.app(scope, receive, self._judging(credential, send) if credential else send)
        wait = max(1, int(self.counts.get_window_stats(item, caller).reset_time - time.time()) + 1)
        answer = problem(429, "too-many", f"at most {item}; try again in {wait} s", {"Retry-After": str(wait)})
        await answer(scope, receive, send)

    def _judging(self, credential: str, send: Send) -> Send:
        """Notes by the answer whether a credential is worth anything."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 401:
                    self.good.pop(credential, None)
                elif credential not in self.good:
                    if len(self.good) >= MANY:
                        self.good.clear()
                    self.good[credential] = None
            await send(message)

        return noted


def _caller(scope: Scope) -> tuple[str, str]:
    """(address, hash of the credential or nothing)."""
    credential = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return (scope.get("client") or ("unknown", 0))[0], hashlib.sha256(credential).hexdigest() if credential else ""
