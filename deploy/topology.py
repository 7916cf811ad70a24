"""The topology: which nodes there are, who stands above whom, and where each listens; read from one TOML file, a line a node."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts.base import Code
from shared.errors import Invalid
from shared.settings import Above, Below, Bucket, Mail, Names, Outgoing

SERVICES = ("case", "grid", "evaluation", "web")


class Spec(BaseModel):
    """One node as the topology writes it. `port` is the first of ten that the node uses on this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: Code
    parent: Code | None = None
    names: Names
    zone: str
    calendar: str
    port: int = Field(ge=1024, le=65500)
    database_url: str | None = None
    objects: Bucket | None = Field(default=None, description="bucket for photos; without one they lie in the node's own folder")
    uplink: str | None = Field(default=None, pattern=r"^[0-9A-Za-z.:-]+$", description="host:port of the parent's link listener")
    mail: Mail | None = None
    outgoing: Outgoing = Outgoing()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def service_ports(self) -> dict[str, int]:
        """Where each service listens when it runs by itself; the page keeps the node's own port."""
        return {"case": self.port + 1, "grid": self.port + 2, "evaluation": self.port + 3, "web": self.port}
    @property
    def broker_ports(self) -> tuple[int, ...]:
        return self.broker_port, self.leaf_port, self.monitor_port

    @property
    def broker_port(self) -> int:
        return self.port + 7

    @property
    def leaf_port(self) -> int:
        return self.port + 8

    @property
    def monitor_port(self) -> int:
        return self.port + 9


class Topology(BaseModel):
    """A federation: its pack and its nodes, parents before children. `zone`, `calendar` and `mail` hold for nodes that
    name none."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    pack: Path
    demo: bool = False
    zone: str = "UTC"
    calendar: str = "none"
    mail: Mail | None = None
    nodes: tuple[Spec, ...]

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        common = {name: values.get(name, cls.model_fields[name].default) for name in ("zone", "calendar", "mail")}
        nodes = [common | node if isinstance(node, dict) else node for node in values.get("nodes", [])]
        return values | {"nodes": nodes}

    def node(self, code: str) -> Spec:
        for spec in self.nodes:
            if spec.code == code:
                return spec
        raise Invalid(f"no node {code} in the topology", field="/nodes")

    def path(self, code: str) -> tuple[str, ...]:
        """Codes from the root to `code`."""
        spec = self.node(code)
        return (*(self.path(spec.parent) if spec.parent else ()), code)

    def children(self, code: str) -> list[Spec]:
        return [s for s in self.nodes if s.parent == code]

    def subtree(self, code: str) -> tuple[Below, ...]:
        """Every node below `code` with the route to it."""
        found = []
        for spec in self.nodes:
            path = self.path(spec.code)
            if code in path[:-1] and spec.parent:
                route = path[path.index(code) + 1 :]
                found.append(
                    Below(code=spec.code, parent=spec.parent, names=spec.names, zone=spec.zone, route=route, url=spec.url)
                )
        return tuple(found)

    def above(self, code: str) -> tuple[Above, ...]:
        """The nodes from the root to the parent of `code`."""
        specs = [self.node(c) for c in self.path(code)[:-1]]
        return tuple(Above(code=s.code, names=s.names, url=s.url) for s in specs)

    def zone_of(self, code: str) -> ZoneInfo:
        return ZoneInfo(self.node(code).zone)

    def leaves(self) -> list[str]:
        """Codes of the nodes that have none below them."""
        return [s.code for s in self.nodes if not self.children(s.code)]

    @property
    def root(self) -> Spec:
        return next(s for s in self.nodes if s.parent is None)


def load(path: Path) -> Topology:
    """Read and check a topology file. Raises Invalid naming the field."""
    try:
        topology = Topology.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        field = "/" + "/".join(map(str, first["loc"]))
        raise Invalid(f"{path.name}, {field}: {first['msg']}", field=field) from None
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path.name}: {error}") from None
    _check(topology)
    return topology


def _check(topology: Topology) -> None:
    seen: set[str] = set()
    ports: set[int] = set()
    for spec in topology.nodes:
        if spec.code in seen:
            raise Invalid(f"{spec.code} is there twice", field="/nodes")
        if spec.parent is not None and spec.parent not in seen:
            raise Invalid(f"the parent {spec.parent} of {spec.code} must stand before it", field="/nodes")
        if ports & set(range(spec.port, spec.port + 10)):
            raise Invalid(f"the ports of {spec.code} are taken by another node", field="/nodes")
        try:
            ZoneInfo(spec.zone)
        except (OSError, ValueError, KeyError):
            raise Invalid(f"{spec.code}: no time zone is called {spec.zone}", field="/nodes") from None
        seen.add(spec.code)
        ports |= set(range(spec.port, spec.port + 10))
    if sum(s.parent is None for s in topology.nodes) != 1:
        raise Invalid("a federation has exactly one root", field="/nodes")
