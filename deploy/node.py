"""One node's process: puts the services together on one database and one broker and serves them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import APIRouter, FastAPI

import services.case.api
import services.evaluation.api
import services.grid.api
from deploy.migrate import migrate
from services.evaluation.handlers import READER, fold
from services.grid.packs import Pack
from services.grid.packs import load as load_pack
from services.web.statics import Statics
from shared.auth import Gate, public, trusted
from shared.bus import Bus
from shared.database import open_engine
from shared.errors import Invalid
from shared.reader import Reader
from shared.settings import Node
from shared.settings import load as load_node
from shared.telemetry import configure_logs
from shared.web import Runtime, create
from shared.writer import Writer


@dataclass(frozen=True)
class Located:
    cell: str | None
    division: str


class Around:
    """What the case service asks of its surroundings, answered from the pack."""

    def __init__(self, node: Node, pack: Pack) -> None:
        self.zone: ZoneInfo = node.tz
        self._code, self._cells = node.code, pack.cells
        self._limits = {c.code: (float(c.limit_hours), pack.edition) for c in pack.catalogue}

    def locate(self, lon: float, lat: float) -> Located:
        cell = self._cells.locate(lon, lat)
        if cell is None or not cell.division.startswith(self._code):
            raise Invalid("this place lies outside the node", field="/data/lon")
        return Located(cell.code, cell.division)

    def limit(self, category: str) -> tuple[float, str]:
        if category not in self._limits:
            raise Invalid(f"no category {category} in the catalogue", field="/data/category")
        return self._limits[category]


def assemble(node: Node) -> Runtime:
    """Open and migrate the database and tie the services to it; nothing runs yet."""
    engine = open_engine(node.database_url)
    migrate(engine)
    pack = load_pack(node.pack)
    writer = Writer(engine, node.code)
    runtime = Runtime(node, engine, writer, Gate(node, engine, trusted(node.secrets)))
    runtime.extra |= {"around": Around(node, pack), "pack": pack, "changes": 0}
    runtime.bus = Bus(node, engine, ("case",), ((Reader(READER, engine, fold), "case"),))

    def changed() -> None:
        runtime.extra["changes"] += 1

    runtime.bus.changed = changed
    return runtime


def about(runtime: Runtime) -> APIRouter:
    """What a page needs to know of its node."""
    router = APIRouter(prefix="/api/web/v1", tags=["web"])

    @router.get("/node", dependencies=[public("names of units and of their parents are published data")])
    def node() -> dict[str, object]:
        here, pack = runtime.node, runtime.extra["pack"]
        children = [{"code": c.code, "names": c.names.model_dump(), "url": c.url} for c in here.children()]
        return {
            "code": here.code, "names": here.names.model_dump(), "path": [{"code": c} for c in here.path],
            "children": children, "demo": here.demo, "note": {"zh": pack.note.zh, "en": pack.note.en},
            "source": "; ".join(pack.sources),
        }  # fmt: skip

    return router


def build(path: Path) -> FastAPI:
    """The app of the node whose settings stand in `path`."""
    node = load_node(path)
    configure_logs(node.code)
    runtime = assemble(node)
    routers = [services.case.api.router, services.grid.api.router, services.evaluation.api.router, about(runtime)]
    app = create(runtime, f"Sanji {node.code}", routers)
    app.mount("/", Statics(), name="page")
    if runtime.bus:
        bus = runtime.bus
        runtime.writer.committed = lambda: _wake(bus)
    return app


def _wake(bus: Bus) -> None:
    if bus.loop:
        bus.loop.call_soon_threadsafe(bus.wake.set)


def serve(path: Path) -> None:
    """Run the node until SIGTERM; accepted requests are finished first."""
    node = load_node(path)
    config = uvicorn.Config(
        build(path), host=node.host, port=node.port, log_level="warning", access_log=False, timeout_graceful_shutdown=10
    )
    asyncio.run(uvicorn.Server(config).serve())
