"""The whole path unattended: a federation of real processes, generated cases, killed processes, and a recount of the input.

The recount reads the generated events only and shares no code with the services.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from deploy.generate import cases
from deploy.supervisor import Supervisor
from deploy.topology import Topology, load
from services.grid.packs import Pack
from services.grid.packs import load as load_pack
from shared.auth import new_key
from shared.database import open_engine
from shared.settings import load as load_node

ROOT = Path(__file__).resolve().parent
SOURCE = "urn:sanji:generator"
NAMES = {"reported": "reported", "refused": "refused", "filed": "filed", "closed": "closed"}


def leaves(topology: Topology) -> list[str]:
    return [s.code for s in topology.nodes if not topology.children(s.code)]


def spots(pack: Pack, code: str) -> list[tuple[float, float]]:
    inside = [c.outline.representative_point() for c in pack.cells.cells if c.division.startswith(code)]
    return [(p.x, p.y) for p in inside]


def push(port: int, key: str, events: list[dict[str, Any]]) -> Counter[str]:
    """Push until every event was answered; a node that is down or busy is asked again, which is safe by (source, id)."""
    until = time.monotonic() + 60
    while True:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/api/case/v1/events", json=events, timeout=20,
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents-batch+json"},
            )  # fmt: skip
            if answer.status_code == 200:
                return Counter(i["outcome"] for i in answer.json()["items"])
            if answer.status_code not in (429, 500, 503):
                raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")
        except httpx.TransportError:
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"the node on port {port} took nothing for 60 s")
        time.sleep(0.3)


def key_of(base: Path, code: str) -> str:
    node = load_node(base / code / "node.json")
    return new_key(open_engine(node.database_url), code, "integrator", SOURCE)


def figures(port: int, by: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    items = httpx.get(f"http://127.0.0.1:{port}/api/evaluation/v1/figures", params={"by": by}, timeout=20).json()["items"]
    return {tuple(i[d] for d in by.split(",")): tuple(i[n] for n in NAMES) for i in items}


def run(base: Path, count: int = 2000, topology_file: Path = ROOT / "topologies" / "demo.toml") -> tuple[bool, str]:
    """(all figures equal, a line of figures)."""
    topology = load(topology_file)
    pack = load_pack(ROOT / topology.pack)
    categories = [(c.code, float(c.limit_hours)) for c in pack.catalogue[:12]]
    begun = time.monotonic()
    supervisor = Supervisor(topology, base)
    try:
        supervisor.up()
        ready = time.monotonic() - begun
        truth, sent = _drive(supervisor, topology, pack, categories, base, count)
        pushed = time.monotonic()
        root = next(s for s in topology.nodes if s.parent is None)
        equal = settle(supervisor, root.port, truth)
        line = (
            f"e2e: {count} cases, {sent} events, ready in {ready:.1f} s, equal {time.monotonic() - pushed:.1f} s after the last, "
            f"restarts {sum(c.restarts for c in supervisor.children())}, figures {'equal' if equal else 'DIFFER'}"
        )
        return equal, line
    finally:
        supervisor.stop()


def _drive(
    supervisor: Supervisor, topology: Topology, pack: Pack, categories: list[tuple[str, float]], base: Path, count: int
) -> tuple[dict[tuple[str, ...], Counter[str]], int]:
    truth: dict[tuple[str, ...], Counter[str]] = {}
    sent, counties = 0, leaves(topology)
    now = datetime.now(UTC)
    for index, code in enumerate(counties):
        key, port = key_of(base, code), topology.node(code).port
        made = list(cases(index, count // len(counties), now, SOURCE, categories, spots(pack, code)))
        for case in made:
            counter = truth.setdefault((code, case[0]["data"]["category"]), Counter())
            counter.update(e["id"].partition(":")[2] for e in case)
        events = [e for case in made for e in case]
        for start in range(0, len(events), 200):
            supervisor.tend()
            if start == 400 and index == 0:
                _kill(supervisor, counties[0], topology)
            outcome = push(port, key, events[start : start + 200])
            if outcome["refused"]:
                raise RuntimeError(f"{code} refused {outcome['refused']} generated events")
        sent += len(events)
    return truth, sent


def _kill(supervisor: Supervisor, code: str, topology: Topology) -> None:
    """kill -9 a county's node and the broker above it, in the middle of the work."""
    above = topology.node(code).parent or code
    for child in (supervisor.nodes[code], supervisor.brokers[above]):
        if child.process:
            os.kill(child.process.pid, signal.SIGKILL)
            child.process.wait()
    supervisor.tend()


def settle(
    supervisor: Supervisor, port: int, truth: Mapping[tuple[str, ...], Mapping[str, int]], patience: float = 45,
    by: str = "origin,category",
) -> bool:  # fmt: skip
    """Wait until the figures at `port` equal `truth`, tending the processes meanwhile; False when patience ends first."""
    wanted = {k: tuple(c.get(n, 0) for n in NAMES) for k, c in truth.items()}
    until = time.monotonic() + patience
    while time.monotonic() < until:
        supervisor.tend()
        try:
            if figures(port, by) == wanted:
                return True
        except (httpx.HTTPError, KeyError):
            pass
        time.sleep(0.25)
    return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sanji-e2e-") as folder:
        ok, line = run(Path(folder))
    print(line)
    raise SystemExit(0 if ok else 1)
