"""Keeps a federation's processes alive on one machine: brokers first, then nodes; what dies is started again with back-off."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy import client, strangers
from deploy.migrate import migrate
from deploy.process import Child, Nursery, taken
from deploy.render import render, secret
from deploy.topology import SERVICES, Spec, Topology
from shared.database import open_engine
from shared.errors import Conflict
from shared.settings import load as load_node

BROKER = Path(sys.executable).parent / "nats-server"


class Supervisor:
    """A federation on this machine, with all of its state under `base`; `split` runs each service as a process of its own."""

    def __init__(self, topology: Topology, base: Path, *, split: bool = False) -> None:
        self.base, self.split = base.resolve(), split
        self.topology = topology
        self.nursery = Nursery()
        self.brokers: dict[str, Child] = {}
        self.nodes: dict[str, Child] = {}
        # The process that looks after this folder; `sanji apply` sends it a signal.
        self._mark = self.base / "up.pid"
        self.apply(topology)

    def apply(self, topology: Topology) -> list[str]:
        """Render every node of `topology`, tell running brokers, and take in nodes that are new; answers their codes.

        Running nodes see their changed settings by themselves; nothing that runs is restarted.
        """
        kept = {(s.code, s.parent) for s in topology.nodes}
        lost_one = {s.parent for s in self.topology.nodes if (s.code, s.parent) not in kept}
        self.topology = topology
        new = [s.code for s in topology.nodes if s.code not in self.brokers]
        for spec in topology.nodes:
            settings = render(topology, spec.code, self.base)
            if spec.code in new:
                self._take_in(spec.code, settings)
            else:
                self._reload(spec, drop=spec.code in lost_one)
        return new

    def _reload(self, spec: Spec, *, drop: bool) -> None:
        """Let a running broker read its configuration anew and, where a child left, `drop` the links that have no account."""
        at = load_node(self.base / spec.code / "node.json").broker
        before = strangers.loaded(at.monitor) if drop else ""
        self.brokers[spec.code].signal(signal.SIGHUP)
        if drop:
            accounts = {"NODE", *(f"L_{child.code}" for child in self.topology.children(spec.code))}
            strangers.end(at.monitor, at.url, secret(self.base, spec.code, "sys"), accounts, before)

    @classmethod
    def alone(cls, settings: Path, *, broker: bool = True) -> Supervisor:
        """One node by its rendered files; whoever rendered them knows the topology, the machine need not."""
        node = load_node(settings)
        spec = Spec(code=node.code, names=node.names, zone=node.zone, calendar=node.calendar, port=node.port)
        self = cls(Topology(pack=node.pack, demo=node.demo, nodes=()), settings.resolve().parent.parent)
        self.topology = Topology(pack=node.pack, demo=node.demo, nodes=(spec,))
        self._take_in(node.code, settings.resolve())
        if not broker:
            self.brokers.clear()
        return self

    def _take_in(self, code: str, settings: Path) -> None:
        folder = settings.parent
        command = [str(BROKER), "-c", str(folder / "broker.conf")]
        self.brokers[code] = self._child(f"broker {code}", {"program": command}, folder / "broker.log")
        if not self.split:
            what = {"run": "deploy.node:serve", "arguments": [str(settings)]}
            self.nodes[code] = self._child(f"node {code}", what, folder / "node.log")
            return
        for service in SERVICES:
            what = {"run": "deploy.node:serve", "arguments": [str(settings), service]}
            self.nodes[f"{code}/{service}"] = self._child(f"{service} {code}", what, folder / f"{service}.log")

    def _child(self, name: str, what: dict[str, Any], log: Path) -> Child:
        return Child(name, what | {"log": str(log)}, self.nursery)

    def children(self) -> list[Child]:
        return [*self.brokers.values(), *self.nodes.values()]

    def tend(self) -> None:
        """Start whatever is not running and due."""
        for child in self.children():
            if not child.alive and child.due():
                child.start()

    def ready(self, code: str) -> bool:
        """Whether everything of the node says that it may be trusted with work."""
        spec = self.topology.node(code)
        return all(client.ready(port) for port in (spec.service_ports.values() if self.split else [spec.port]))

    def up(self, patience: float = 90) -> None:
        """Start everything and wait until every node says that it is ready.

        Raises Conflict where another supervisor runs from the same folder or a port is taken, TimeoutError naming who is late.
        """
        if not any(child.alive for child in self.children()):
            self._alone_here()
        if self.split:
            # Before there are several who could change a schema at once.
            for code in [s.code for s in self.topology.nodes]:
                migrate(open_engine(load_node(self.base / code / "node.json").database_url))
        self._mark.write_text(str(os.getpid()))
        self.wait_for([s.code for s in self.topology.nodes], patience)

    def _alone_here(self) -> None:
        other = self._mark.read_text() if self._mark.exists() else ""
        if other and other != str(os.getpid()) and Path(f"/proc/{other}").exists():
            raise Conflict(f"a federation runs from {self.base} already (process {other})", field="/state")
        for spec in self.topology.nodes:
            for port in {*(spec.service_ports.values() if self.split else ()), spec.port, *spec.broker_ports}:
                if taken(port):
                    raise Conflict(f"port {port} of node {spec.code} is taken by another program", field="/nodes")

    def wait_for(self, codes: list[str], patience: float = 90) -> None:
        """Tend until all of `codes` are ready. Raises TimeoutError naming who is not."""
        until = time.monotonic() + patience
        while codes:
            self.tend()
            time.sleep(0.1)
            codes = [c for c in codes if not self.ready(c)]
            if codes and time.monotonic() > until:
                raise TimeoutError(f"not ready after {patience:.0f} s: {', '.join(codes)}; see the *.log files in their folders")

    def run(self, step: Callable[[], object], changed: Callable[[], Topology] | None = None) -> None:
        """Tend until SIGINT or SIGTERM and call `step` twice a second; at SIGHUP take in the topology that `changed` reads."""
        got: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda n, _: got.append(n))
        while not {signal.SIGINT, signal.SIGTERM} & set(got):
            if signal.SIGHUP in got and changed:
                got.clear()
                self.apply(changed())
            self.tend()
            step()
            time.sleep(0.5)

    def stop(self) -> None:
        """Nodes first, so that they can drain into their brokers."""
        for group in (self.nodes, self.brokers):
            for child in group.values():
                child.signal(signal.SIGTERM)
            for child in group.values():
                child.end()
        self.nursery.close()
        if self._mark.exists() and self._mark.read_text() == str(os.getpid()):
            self._mark.unlink()
