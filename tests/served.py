"""A node over real HTTP for tests: the demo's settings, a database of the test's choice, uvicorn on a free port in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from httpx import Client, Response
from joserfc import jwt
from joserfc.jwk import OKPKey
from jsonschema import Draft202012Validator
from sqlalchemy import Engine

from deploy.around import Around
from deploy.migrate import migrate
from deploy.render import render
from deploy.routers import ROUTERS
from deploy.topology import Topology, load
from services.grid.packs import Pack
from services.grid.packs import load as load_pack
from shared.auth import Gate, new_key
from shared.bus import Bus
from shared.issuers import Issuers
from shared.loops import Loops
from shared.settings import Limits, Node
from shared.settings import load as load_node
from shared.web import Runtime, create
from shared.writer import Writer

ROOT, MIDDLE, LEAF = "650000", "650100", "650102"
ISSUER, PLATFORM = "https://issuer.example", "urn:platform:roads"
PROBLEM = Draft202012Validator(
    {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:sanji:problem:[a-z0-9-]+$"},
            "title": {"type": "string", "minLength": 1},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "minLength": 1},
            "field": {"type": "string", "pattern": "^/"},
        },
    }
)
"""What RFC 9457 and our own rules want of every error."""


@cache
def topology() -> Topology:
    return load(Path(__file__).resolve().parents[1] / "deploy" / "topologies" / "demo.toml")


@cache
def pack(folder: Path) -> Pack:
    return load_pack(folder)


def settings(base: Path, code: str = LEAF, **changes: Any) -> Node:
    """The settings of a demo node under `base`, some of them changed."""
    return load_node(render(topology(), code, base)).model_copy(update=changes)


def start(node: Node, engine: Engine, *, bound: int = 2000) -> Runtime:
    """Everything that the routes need, on a database that is there, without a broker."""
    loops = Loops()
    gate = Gate(node, engine, Issuers(node.secrets, node.demo))
    writer = Writer(engine, node.code, bound=bound)
    runtime = Runtime(node, engine, writer, gate, Bus(node, engine, loops, (), ()), loops)
    found = pack(node.pack)
    around = Around(node, found)
    runtime.extra |= {"around": around, "areas": around, "pack": found, "about": {}, "changes": 0}
    return runtime


def app(runtime: Runtime, *names: str) -> FastAPI:
    return create(runtime, "test", [ROUTERS[n] for n in names or ROUTERS])


@contextmanager
def listening(served: Any) -> Iterator[str]:
    """The address at which an ASGI app answers while the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(served, log_level="critical", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@dataclass
class Served:
    """A node that answers, and credentials for it."""

    runtime: Runtime
    client: Client
    key: OKPKey = field(default_factory=lambda: OKPKey.generate_key("Ed25519", {"kid": "one"}))

    def __post_init__(self) -> None:
        folder = self.runtime.node.secrets / "issuers"
        folder.mkdir(parents=True, exist_ok=True)
        keys = {"keys": [self.key.as_dict(private=False)]}
        (folder / "test.json").write_bytes(orjson.dumps({"issuer": ISSUER, "keys": keys}))

    def token(self, *roles: str, node: str = ROOT, key: Any = None, alg: str = "Ed25519", **claims: Any) -> str:
        """A signed token with `roles` at `node`; claims given replace the right ones, None leaves one out."""
        right = {"iss": ISSUER, "sub": "somebody", "aud": "sanji", "exp": int(time.time()) + 600}
        right |= {"sanji": [{"role": r, "node": node} for r in roles]} | claims
        key = key or self.key
        header = {"alg": alg} | ({"kid": key.kid} if key.kid else {})
        return jwt.encode(header, {k: v for k, v in right.items() if v is not None}, key, algorithms=[alg])

    def api_key(self, role: str = "integrator", node: str | None = None, days: int = 1) -> str:
        return new_key(self.runtime.engine, node or self.runtime.node.code, role, PLATFORM, days)

    def as_(self, *roles: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*roles)}"}

    def as_platform(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key()}"}


@contextmanager
def node(base: Path, engine: Engine, code: str = LEAF, *, bound: int = 2000, **changes: Any) -> Iterator[Served]:
    """The node `code` with all its services, some of its settings changed, and a client of it."""
    runtime = start(settings(base, code, **changes), engine, bound=bound)
    with listening(app(runtime)) as url, Client(base_url=url, timeout=30) as client:
        yield Served(runtime, client)


def refused(response: Response, status: int, field: str | None = None) -> dict[str, Any]:
    """Check that an answer is the problem document that it should be, and give its body."""
    assert response.status_code == status, f"{response.status_code} instead of {status}: {response.text[:300]}"
    assert response.headers["content-type"] == "application/problem+json", response.text[:300]
    found: dict[str, Any] = response.json()
    PROBLEM.validate(found)
    assert found["status"] == status
    if field is not None:
        assert found.get("field") == field, found
    return found


__all__ = ["Limits", "Served", "app", "listening", "migrate", "node", "refused", "settings", "start"]
