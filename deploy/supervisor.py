"""Keeps a federation's processes alive on one machine: brokers first, then nodes; what dies is started again with back-off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from deploy.render import render
from deploy.topology import Topology

BROKER = Path(sys.executable).parent / "nats-server"


@dataclass
class Child:
    """One process that must live; `failures` counts early deaths in a row."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    restarts: int = -1

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def due(self) -> bool:
        pause: float = min(10.0, 0.2 * 2.0**self.failures)
        return time.monotonic() - self.started >= pause

    def start(self) -> None:
        self.failures = self.failures + 1 if time.monotonic() - self.started < 10 and self.started else 0
        self.started = time.monotonic()
        self.restarts += 1
        with self.log.open("ab") as out:
            # A session of its own: Ctrl-C reaches the supervisor alone, which then stops everything in order.
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out, start_new_session=True)


class Supervisor:
    """A federation on this machine, with all of its state under `base`."""

    def __init__(self, topology: Topology, base: Path) -> None:
        self.topology, self.base = topology, base.resolve()
        self.brokers: dict[str, Child] = {}
        self.nodes: dict[str, Child] = {}
        for spec in topology.nodes:
            settings = render(topology, spec.code, self.base)
            folder = settings.parent
            command = [str(BROKER), "-c", str(folder / "broker.conf")]
            self.brokers[spec.code] = Child(f"broker {spec.code}", command, folder / "broker.log")
            command = [sys.executable, "-m", "deploy.cli", "node", str(settings)]
            self.nodes[spec.code] = Child(f"node {spec.code}", command, folder / "node.log")

    def children(self) -> list[Child]:
        return [*self.brokers.values(), *self.nodes.values()]

    def tend(self) -> None:
        """Start whatever is not running and due."""
        for child in self.children():
            if not child.alive and child.due():
                child.start()

    def ready(self, code: str) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.topology.node(code).port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def up(self, patience: float = 90) -> None:
        """Start everything and wait until every node says that it is ready. Raises TimeoutError naming who is not."""
        until = time.monotonic() + patience
        waiting = [s.code for s in self.topology.nodes]
        while waiting:
            self.tend()
            time.sleep(0.2)
            waiting = [c for c in waiting if not self.ready(c)]
            if waiting and time.monotonic() > until:
                raise TimeoutError(f"not ready after {patience:.0f} s: {', '.join(waiting)}; see node.log in their folders")

    def run(self, show: Callable[[], None]) -> None:
        """Tend until SIGINT or SIGTERM, then stop all of it."""
        stop: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, _: stop.append(n))
        while not stop:
            self.tend()
            show()
            time.sleep(0.5)

    def stop(self) -> None:
        """Nodes first, so that they can drain into their brokers."""
        for group in (self.nodes, self.brokers):
            alive = [c.process for c in group.values() if c.alive and c.process]
            for process in alive:
                process.terminate()
            for process in alive:
                try:
                    process.wait(12)
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
