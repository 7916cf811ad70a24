"""Puts a node's services together: all of them in one process, or each by itself; and serves them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from deploy.around import Around
from deploy.migrate import behind, migrate
from deploy.routers import ROUTERS, document
from deploy.topology import SERVICES
from services.evaluation.handlers import READER, fold
from services.grid.packs import load as load_pack
from services.web.front import Front
from services.web.statics import Statics
from shared.auth import Gate
from shared.bus import Bus
from shared.database import open_engine
from shared.issuers import Issuers
from shared.loops import Loops
from shared.reader import Reader
from shared.settings import load as load_node
from shared.telemetry import configure_logs
from shared.web import Runtime, create
from shared.writer import Writer

ALL = SERVICES
CONTRACTS = Path(__file__).resolve().parent.parent / "contracts" / "generated"


def assemble(path: Path, wanted: tuple[str, ...] = ALL) -> Runtime:
    """Open the database and tie `wanted` services to it and to the broker; nothing runs yet."""
    node = load_node(path)
    engine, loops = open_engine(node.database_url), Loops()
    pack = load_pack(node.pack)
    bus = Bus(
        node, engine, loops, publishes=("case",) if "case" in wanted else (),
        readers=((Reader(READER, engine, fold), "case"),) if "evaluation" in wanted else (),
    )  # fmt: skip
    writer = Writer(engine, node.code)
    writer.committed = bus.committed
    runtime = Runtime(node, engine, writer, Gate(node, engine, Issuers(node.secrets, node.demo)), bus, loops, path)
    around = Around(node, pack)
    note = {"note": {"zh": pack.note.zh, "en": pack.note.en}, "source": "; ".join(pack.sources)}
    runtime.extra |= {"around": around, "areas": around, "pack": pack, "about": note, "changes": 0}

    def changed() -> None:
        runtime.extra["changes"] += 1

    bus.changed = changed
    return runtime


def build(path: Path, wanted: tuple[str, ...] = ALL) -> FastAPI:
    """The app of `wanted` services of the node whose settings stand in `path`.

    All together they bring the schema up to date by themselves; a service alone refuses to start on an old one, because
    several at once must not change it. Raises SystemExit then.
    """
    node = load_node(path)
    configure_logs(node.code)
    engine = open_engine(node.database_url)
    if wanted == ALL:
        migrate(engine)
    elif behind(engine):
        raise SystemExit(f"the schema of {node.code} is not current: run sanji migrate {path}")
    engine.dispose()
    runtime = assemble(path, wanted)
    app = create(runtime, f"Sanji {node.code}", [ROUTERS[name] for name in wanted])
    document(app, wanted)
    if "web" in wanted:
        # Where a fact's `dataschema`, less its urn:sanji: in front, is found.
        app.mount("/contracts", StaticFiles(directory=CONTRACTS), name="contracts")
    if wanted == ("web",):
        others = {name: f"http://{node.host}:{port}" for name, port in node.ports.items()}
        app.mount("/api", Front(others))
    if "web" in wanted:
        app.mount("/", Statics(), name="page")
    return app


def _from_environment(*wanted: str) -> FastAPI:
    return build(Path(os.environ["SANJI_NODE"]), wanted)


def whole() -> FastAPI:
    """For `uvicorn --factory deploy.node:whole` with SANJI_NODE naming the node.json."""
    return _from_environment(*ALL)


def case() -> FastAPI:
    """For `uvicorn --factory deploy.node:case`."""
    return _from_environment("case")


def grid() -> FastAPI:
    """For `uvicorn --factory deploy.node:grid`."""
    return _from_environment("grid")


def evaluation() -> FastAPI:
    """For `uvicorn --factory deploy.node:evaluation`."""
    return _from_environment("evaluation")


def web() -> FastAPI:
    """For `uvicorn --factory deploy.node:web`."""
    return _from_environment("web")


def serve(settings: str, service: str | None = None) -> None:
    """Run the node, or one service of it, until SIGTERM; accepted requests are finished first."""
    path = Path(settings)
    node = load_node(path)
    app = build(path, (service,) if service else ALL)
    port = node.ports.get(service, node.port) if service else node.port
    config = uvicorn.Config(
        app, host=node.host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=10
    )
    server = uvicorn.Server(config)
    app.state.runtime.leaving = lambda: server.should_exit
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve())
