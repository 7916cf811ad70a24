"""The topology: which nodes there are, who stands above whom, and where each listens; read from one TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import Invalid
from shared.settings import Below, Names


class Spec(BaseModel):
    """One node as the topology writes it. `port` is the first of ten that the node uses on this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str
    parent: str | None = None
    names: Names
    zone: str
    calendar: str = "none"
    port: int
    database_url: str | None = None

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
    """A federation: its pack and its nodes, parents before children."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    pack: Path
    demo: bool = False
    nodes: tuple[Spec, ...]

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
                url = f"http://127.0.0.1:{spec.port}/"
                below = Below(code=spec.code, parent=spec.parent, names=spec.names, zone=spec.zone, route=route, url=url)
                found.append(below)
        return tuple(found)


def load(path: Path) -> Topology:
    """Read and check a topology file. Raises Invalid naming the field."""
    try:
        topology = Topology.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise Invalid(f"{path.name}: {error}") from None
    seen: set[str] = set()
    ports: set[int] = set()
    for spec in topology.nodes:
        if spec.code in seen:
            raise Invalid(f"{spec.code} is there twice", field="/nodes")
        if spec.parent is not None and spec.parent not in seen:
            raise Invalid(f"the parent {spec.parent} of {spec.code} must stand before it", field="/nodes")
        if ports & set(range(spec.port, spec.port + 10)):
            raise Invalid(f"the ports of {spec.code} are taken by another node", field="/nodes")
        seen.add(spec.code)
        ports |= set(range(spec.port, spec.port + 10))
    if sum(s.parent is None for s in topology.nodes) != 1:
        raise Invalid("a federation has exactly one root", field="/nodes")
    return topology
