"""Builds a service's HTTP app: problems, guards, limits, metrics, health; the same for every service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.routing import APIRoute
from prometheus_client import generate_latest
from sqlalchemy import Engine

from shared.auth import Gate, public
from shared.bus import Bus
from shared.database import durable
from shared.problems import install
from shared.settings import Node
from shared.telemetry import Metrics
from shared.writer import Writer

MAX_BODY = 8 * 1024 * 1024
Next = Callable[[Request], Awaitable[Response]]


@dataclass
class Runtime:
    """What the routes of a node's process work with."""

    node: Node
    engine: Engine
    writer: Writer
    gate: Gate
    bus: Bus | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def troubles(self) -> dict[str, str]:
        """Why this process is not ready; empty when it is."""
        found: dict[str, str] = {}
        try:
            if not durable(self.engine):
                found["database"] = "commits do not survive a power cut: set synchronous=FULL (SQLite) or fsync=on (PostgreSQL)"
        except Exception as error:
            found["database"] = f"{type(error).__name__}"
        if not self.writer.alive:
            found["writer"] = "stopped"
        if self.bus:
            found |= {f"loop {name}": why for name, why in self.bus.loops.troubles().items()}
            if self.bus.not_durable:
                found["broker"] = self.bus.not_durable
        return found


def create(runtime: Runtime, title: str, routers: list[APIRouter]) -> FastAPI:
    """An app with the given routers; starts and stops the bus with itself."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with running(runtime):
            yield

    app = FastAPI(title=title, version="1", lifespan=life, max_body_size=MAX_BODY, docs_url="/docs", redoc_url=None)
    app.state.gate, app.state.runtime, app.state.metrics = runtime.gate, runtime, Metrics()
    install(app)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    _measure(app)
    for router in [*routers, health()]:
        app.include_router(router)
    return app


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[None]:
    if runtime.bus:
        await runtime.bus.start()
    try:
        yield
    finally:
        runtime.writer.close()
        if runtime.bus:
            await runtime.bus.stop()


def _measure(app: FastAPI) -> None:
    metrics: Metrics = app.state.metrics

    @app.middleware("http")
    async def measured(request: Request, call_next: Next) -> Response:
        begun = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        # The template, never the path: a path may hold what a caller typed.
        name = route.path if isinstance(route, APIRoute) else "<unmatched>"
        metrics.requests.labels(name, str(response.status_code)).inc()
        metrics.seconds.labels(name).observe(time.perf_counter() - begun)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def health() -> APIRouter:
    """Liveness (this process turns), readiness (it may be trusted with work) and metrics."""
    router = APIRouter(tags=["health"])
    machine = "read by the machine's own supervisor and monitoring; tells nothing of any case"

    @router.get("/livez", dependencies=[public(machine)])
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz", dependencies=[public(machine)])
    def readyz(request: Request, response: Response) -> dict[str, Any]:
        troubles = request.app.state.runtime.troubles()
        response.status_code = 503 if troubles else 200
        return {"status": "not ready" if troubles else "ready", "troubles": troubles}

    @router.get("/metrics", dependencies=[public(machine)])
    def metrics(request: Request) -> Response:
        return Response(generate_latest(request.app.state.metrics.registry), media_type="text/plain; version=0.0.4")

    return router
