"""Builds a service's HTTP app: problems, guards, limits, metrics, health; the same for every service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from prometheus_client import generate_latest
from sqlalchemy import Engine

from shared.auth import Gate, public
from shared.bus import Bus
from shared.database import durable
from shared.errors import Invalid
from shared.guards import Limited, Measured, Patience
from shared.loops import Loops
from shared.problems import install
from shared.settings import Node, Watch
from shared.telemetry import Gauge, Metrics
from shared.writer import Writer

MAX_BODY = 8 * 1024 * 1024


@dataclass
class Runtime:
    """What the routes of a node's process work with."""

    node: Node
    engine: Engine
    writer: Writer
    gate: Gate
    bus: Bus
    loops: Loops
    settings: Path | None = None
    leaving: Callable[[], bool] = lambda: False
    """Whether the process is about to stop: streams end by themselves then, and nobody has to wait for them."""
    extra: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, Callable[[], str]] = field(default_factory=dict)
    """What a service asks before it is ready, by name: nothing, or why it is not. A service adds them in its router's lifespan,
    where it also starts its loops."""
    measures: list[Callable[[], list[Gauge]]] = field(default_factory=list)
    """What a service adds to the metrics."""

    def now(self) -> datetime:
        """The process's clock: whoever reads asks the same one that what is written is timed by."""
        return self.writer.now()

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
        found |= {f"loop {name}": why for name, why in self.loops.troubles().items()}
        if self.bus.not_durable:
            found["broker"] = self.bus.not_durable
        return found | {name: why for name, check in self.checks.items() if (why := _answer(check))}

    def gauges(self) -> list[Gauge]:
        """What the metrics tell beside requests: queue, commits, loops, and what every reader did."""
        troubles = self.loops.troubles()
        return [
            ("sanji_writer_queue", "Use cases that wait to be written", "queue", {"writer": self.writer.depth}),
            ("sanji_commits", "Group commits since the start", "queue", {"writer": self.writer.commits}),
            ("sanji_commit_seconds", "Seconds spent in group commits", "queue", {"writer": self.writer.seconds}),
            ("sanji_loop_ok", "1 while a background loop does its turns", "loop",
             {name: float(name not in troubles) for name in self.loops.states}),
            ("sanji_loop_failures", "Failed turns in a row", "loop", {n: s.failures for n, s in self.loops.states.items()}),
            *self.bus.gauges(),
            *(gauge for measure in self.measures for gauge in measure()),
        ]  # fmt: skip

    def follow(self, node: Node) -> None:
        """Take over settings that changed while running: nodes that joined below are heard from now on."""
        self.node = self.gate.node = node
        self.bus.follow(node)


def _answer(check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:
        return type(error).__name__


def create(runtime: Runtime, title: str, routers: list[APIRouter]) -> FastAPI:
    """An app with the given routers; starts and stops the bus with itself."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with running(runtime):
            yield

    app = FastAPI(title=title, version="1", lifespan=life, docs_url=None, redoc_url=None)
    metrics = Metrics()
    metrics.sources.append(runtime.gauges)
    app.state.gate, app.state.runtime, app.state.metrics = runtime.gate, runtime, metrics
    install(app)
    # The last one added stands outermost.
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(Patience, seconds=runtime.node.limits.body_seconds, size=MAX_BODY)
    app.add_middleware(Limited, named=runtime.node.limits.named, nameless=runtime.node.limits.nameless)
    app.add_middleware(Measured, metrics=metrics)
    for router in [*routers, health()]:
        app.include_router(router)
    return app


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[None]:
    """From the first to the last request: bus, loops and, at the end, everything accepted written and sent."""
    await runtime.bus.start()
    if runtime.settings:
        runtime.loops.start("settings", Watch(runtime.settings, runtime.follow).turn)
    try:
        yield
    finally:
        runtime.writer.close()
        await runtime.bus.stop()


def refuse_unknown(request: Request) -> None:
    """Raise Invalid for a query parameter that the route does not know: a misspelt filter must not answer everything."""
    known = {p.alias for p in request.scope["route"].dependant.query_params}
    if strange := set(request.query_params) - known:
        names = ", ".join(sorted(known)) or "none"
        raise Invalid(f"no such filter; known are: {names}", field=f"/{min(strange)}")


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
