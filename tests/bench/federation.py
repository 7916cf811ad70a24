"""Federations for the figures: real processes on free ports with all state in a folder that is removed afterwards."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson

from deploy import client, e2e
from deploy.generate import cases
from deploy.process import Child
from deploy.supervisor import Supervisor
from deploy.topology import Topology, load
from services.grid.packs import Pack
from services.grid.packs import load as load_pack
from tests.bench.client import post
from tests.bench.wire import attached
from tests.federation.grounds import free_block

T = TypeVar("T")
DEMO = e2e.ROOT / "topologies" / "demo.toml"
COUNTS = "/api/evaluation/v1/figures?by=origin,day"
"""Cases by origin; with days, because by days no question of the present moment is answered along with them."""


def say(text: str) -> None:
    """Progress, on stderr: stdout is for the figures."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def until(what: str, check: Callable[[], T | None], patience: float, pause: float = 0.05) -> T:
    """Ask `check` until it answers something true. Raises TimeoutError naming `what`."""
    end = time.monotonic() + patience
    while not (found := check()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience:.0f} s")
        time.sleep(pause)
    return found


def chain(codes: Sequence[str]) -> Topology:
    """The named nodes of the demo, each below the one before it."""
    whole = load(DEMO)
    specs = [whole.node(c).model_copy(update={"parent": p}) for p, c in zip((None, *codes[:-1]), codes, strict=True)]
    return whole.model_copy(update={"nodes": tuple(specs)})


def demo() -> Topology:
    return load(DEMO)


@dataclass
class Federation:
    """A running federation and what is needed to give it work."""

    supervisor: Supervisor
    base: Path
    pack: Pack

    @property
    def root(self) -> str:
        return self.supervisor.topology.root.code

    @property
    def counties(self) -> list[str]:
        return self.supervisor.topology.leaves()

    def port(self, code: str) -> int:
        return self.supervisor.topology.node(code).port

    def key(self, code: str) -> str:
        """A key of node `code`; without one a node answers only so many questions a minute."""
        return client.key_of(self.base, code, e2e.SOURCE)

    def filings(self, code: str, count: int, seed: int) -> list[bytes]:
        """Requests that register `count` reports at a county, at its places and in its categories."""
        dice, key = random.Random(seed), self.key(code)
        spots, kinds = e2e.spots(self.pack, code), [c.code for c in self.pack.catalogue]
        made = []
        for _ in range(count):
            lon, lat = dice.choice(spots)
            body = orjson.dumps({"category": dice.choice(kinds), "lon": lon, "lat": lat, "channel": "collector"})
            made.append(post("/api/case/v1/cases", body, key))
        return made

    def cases(self, code: str, count: int, seed: int) -> list[dict[str, Any]]:
        """All platform events of `count` generated cases, each of which states exactly one fact."""
        kinds = [(c.code, float(c.limit_hours)) for c in self.pack.catalogue]
        made = cases(seed, count, datetime.now(UTC), e2e.SOURCE, kinds, e2e.spots(self.pack, code))
        return [e for case in made for e in case]

    def events(self, code: str, count: int, seed: int) -> list[dict[str, Any]]:
        """The first `count` of such events; the last case may be cut short."""
        return self.cases(code, count, seed)[:count]

    def push(self, code: str, events: Sequence[dict[str, Any]], chunk: int = 500) -> None:
        """Push events as a county's platform would. Raises RuntimeError if any was not accepted."""
        headers = {"Authorization": f"Bearer {self.key(code)}", "Content-Type": "application/cloudevents-batch+json"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port(code)}", headers=headers, timeout=60) as line:
            for start in range(0, len(events), chunk):
                part = events[start : start + chunk]
                answer = line.post("/api/case/v1/events", content=orjson.dumps(part))
                if answer.status_code != 200 or answer.json()["accepted"] != len(part):
                    raise RuntimeError(f"{code} did not accept {len(part)} events: {answer.status_code} {answer.text[:300]}")

    def reported(self, at: str) -> dict[str, int]:
        """Cases by origin as node `at` counts them; empty while it does not answer."""
        try:
            return counted(httpx.get(f"http://127.0.0.1:{self.port(at)}{COUNTS}", timeout=20).content)
        except httpx.TransportError:
            return {}

    def await_reported(self, at: str, wanted: dict[str, int], patience: float = 120) -> None:
        """Wait until node `at` counts exactly the wanted cases (origins with none left out)."""
        until(f"{at} counts {wanted}", lambda: self.reported(at) == wanted, patience)

    def recount(self, code: str) -> None:
        """Have a node fold its stored facts anew. Raises RuntimeError naming the differences, if there is one."""
        command = [sys.executable, "-m", "deploy.cli", "recount", str(self.base / code / "node.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"recount of {code}: {(done.stdout + done.stderr)[-500:]}")


def counted(body: bytes) -> dict[str, int]:
    """Cases by origin from an answer to COUNTS."""
    found: dict[str, int] = {}
    for row in orjson.loads(body)["items"]:
        found[row["origin"]] = found.get(row["origin"], 0) + row["reported"]
    return found


def pid(child: Child) -> int:
    if child.pid is None:
        raise RuntimeError(f"{child.name} does not run")
    return child.pid


def end(child: Child, number: signal.Signals = signal.SIGTERM) -> None:
    """Send a process a signal and wait until it has gone; nobody starts it again before the next `tend`."""
    child.signal(number)
    child.end(20)


@contextmanager
def running(topology: Topology) -> Iterator[Federation]:
    """The federation on free ports, once every broker hears those below it.

    Its folder lies in the checkout, since a folder for temporary files may be no disk at all.
    """
    here = Path(".sanji")
    here.mkdir(exist_ok=True)
    first = free_block()
    nodes = tuple(s.model_copy(update={"port": first + 10 * i}) for i, s in enumerate(topology.nodes))
    topology = topology.model_copy(update={"nodes": nodes})
    pack = load_pack(topology.pack if topology.pack.is_absolute() else e2e.ROOT / topology.pack)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=here, ignore_cleanup_errors=True) as folder:
        base = Path(folder).resolve()
        supervisor = Supervisor(topology, base)
        try:
            supervisor.up()
            for spec in topology.nodes:
                children = len(topology.children(spec.code))
                until(f"{spec.code} hears its children", partial(_attached, base, spec.code, children), 90, 0.2)
            yield Federation(supervisor, base, pack)
        finally:
            supervisor.stop()


def _attached(base: Path, code: str, children: int) -> bool:
    return asyncio.run(attached(base, code, children))
