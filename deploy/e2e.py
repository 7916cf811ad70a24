"""The whole path unattended: a federation of real processes, generated cases, killed processes, and a recount of the input.

The recount reads the generated events only and shares no code with the services.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy import client
from deploy.generate import cases
from deploy.supervisor import Supervisor
from deploy.topology import Topology, load
from services.grid.packs import Pack
from services.grid.packs import load as load_pack

ROOT = Path(__file__).resolve().parent
SOURCE = "urn:sanji:generator"
BATCH = 200
Truth = dict[tuple[str, ...], Counter[str]]


def spots(pack: Pack, code: str) -> list[tuple[float, float]]:
    """A point inside each cell of a county, (lon, lat)."""
    inside = [c.outline.representative_point() for c in pack.cells.cells if c.division.startswith(code)]
    return [(p.x, p.y) for p in inside]


@dataclass
class Drive:
    """Pushes generated cases at every county at once and keeps the truth about them."""

    supervisor: Supervisor
    base: Path
    count: int
    truth: Truth = field(default_factory=dict)
    sent: int = 0
    halfway: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Push everything; half-way through, a county's node and the broker above it are killed."""
        leaves = self.supervisor.topology.leaves()
        with ThreadPoolExecutor(len(leaves)) as pool:
            jobs = [pool.submit(self._county, index, code) for index, code in enumerate(leaves)]
            killed = False
            while not all(job.done() for job in jobs):
                if self.halfway.is_set() and not killed:
                    self._kill(leaves[0])
                    killed = True
                self.supervisor.tend()
                time.sleep(0.1)
            for job in jobs:
                job.result()

    def _county(self, index: int, code: str) -> None:
        topology = self.supervisor.topology
        pack = load_pack(ROOT / topology.pack)
        categories = [(c.code, float(c.limit_hours)) for c in pack.catalogue]
        share = self.count // len(topology.leaves())
        made = list(cases(index, share, datetime.now(UTC), SOURCE, categories, spots(pack, code)))
        events = [event for case in made for event in case]
        key, port = client.key_of(self.base, code, SOURCE), topology.node(code).port
        for start in range(0, len(events), BATCH):
            if index == 0 and start >= len(events) // 2:
                self.halfway.set()
            refused = [i for i in client.push(port, key, events[start : start + BATCH]) if i["outcome"] == "refused"]
            if refused:
                raise RuntimeError(f"{code} refused {refused[0]}")
        self.sent += len(events)
        self._remember(code, made)

    def _remember(self, code: str, made: list[list[dict[str, Any]]]) -> None:
        for case in made:
            counter = self.truth.setdefault((code, case[0]["data"]["category"]), Counter())
            counter.update(e["type"].split(".")[-2] for e in case)

    def _kill(self, code: str) -> None:
        """kill -9 a county's node and the broker above it, in the middle of the work."""
        above = self.supervisor.topology.node(code).parent or code
        for name, child in (*self.supervisor.nodes.items(), *self.supervisor.brokers.items()):
            if child.name == f"broker {above}" or (name.partition("/")[0] == code and child.name != f"broker {code}"):
                child.signal(signal.SIGKILL)


def run(
    base: Path, count: int = 2000, topology_file: Path = ROOT / "topologies" / "demo.toml", *, split: bool = False
) -> tuple[bool, str]:
    """(all figures equal, a line of figures)."""
    topology: Topology = load(topology_file)
    begun = time.monotonic()
    supervisor = Supervisor(topology, base, split=split)
    try:
        supervisor.up()
        ready = time.monotonic() - begun
        drive = Drive(supervisor, base, count)
        drive.run()
        pushed = time.monotonic()
        equal = client.settle(topology.root.port, drive.truth, supervisor.tend)
        line = (
            f"e2e: {count} cases, {drive.sent} events, {len(supervisor.children())} processes ready in {ready:.1f} s, pushed in "
            f"{pushed - begun - ready:.1f} s, equal {time.monotonic() - pushed:.1f} s after the last, in all "
            f"{time.monotonic() - begun:.1f} s, restarts {sum(c.restarts for c in supervisor.children())}, "
            f"figures {'equal' if equal else 'DIFFER'}"
        )
        return equal, line
    finally:
        supervisor.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sanji-e2e-") as folder:
        ok, line = run(Path(folder))
    print(line)
    raise SystemExit(0 if ok else 1)
