"""What the tests of the page stand on: the built page, a real federation with known input, a real browser."""

from __future__ import annotations

import os
import subprocess
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser as Running
from playwright.sync_api import Page, sync_playwright

from deploy import client, e2e
from deploy.generate import cases
from deploy.supervisor import Supervisor
from services.grid.packs import load as load_pack
from tests.federation.grounds import free_block, running, write
from tests.web.browser import FLAGS, ROOT, alone, find

DEMO = e2e.ROOT / "topologies" / "demo.toml"
ROOT_NODE, MIDDLE, LEAVES = "650000", "650100", ("650102", "650103")
GENERATED, DAYS = 40, 10
OTHERS = {"replayed": 3, "imported": 2, "live": 1}
"""Reports at the first county besides the generated ones, by where they come from; the replayed ones are of another time."""
LONG_AGO = "2019-06-01T09:00:00+08:00"


@dataclass
class Ground:
    """A running federation, and a count of everything that was pushed into it, taken from the events alone."""

    supervisor: Supervisor
    base: Path
    names: dict[str, dict[str, str]]
    truth: dict[tuple[str, ...], Counter[str]] = field(default_factory=dict)
    origins: Counter[str] = field(default_factory=Counter)
    pushed: int = 0

    def url(self, code: str) -> str:
        return f"http://127.0.0.1:{self.supervisor.topology.node(code).port}"

    def answer(self, code: str, path: str) -> Any:
        return httpx.get(self.url(code) + path, timeout=20).raise_for_status().json()

    def push(self, code: str, made: list[list[dict[str, Any]]]) -> None:
        """Push whole cases (each a list of events, the report first) and remember them; none may be refused."""
        key = client.key_of(self.base, code, e2e.SOURCE)
        items = client.push(self.supervisor.topology.node(code).port, key, [event for case in made for event in case])
        assert {item["outcome"] for item in items} == {"accepted"}, items
        for report, *rest in made:
            counts = self.truth.setdefault((code, report["data"]["category"]), Counter())
            counts.update(e["type"].split(".")[-2] for e in (report, *rest))
            self.origins[report["data"]["provenance"]] += 1

    def report(self, code: str, provenance: str, count: int, at: str | None = None) -> None:
        """Push `count` reports without anything that follows."""
        lon, lat = e2e.spots(load_pack(self.supervisor.topology.pack), code)[0]
        when = at or datetime.now(UTC).isoformat()
        data = {"category": "E0101", "lon": lon, "lat": lat, "provenance": provenance}
        first, self.pushed = self.pushed, self.pushed + count
        made = [
            {"specversion": "1.0", "id": f"r{n}:reported", "source": e2e.SOURCE, "type": "cn.sanji.platform.case.reported.v1",
             "time": when, "subject": f"r{n}", "data": data}
            for n in range(first, first + count)
        ]  # fmt: skip
        self.push(code, [[event] for event in made])

    def count(self, what: str, *codes: str) -> int:
        """How many such events were pushed at these counties; at all of them without any."""
        return sum(counts[what] for (code, _), counts in self.truth.items() if not codes or code in codes)

    def settled(self, code: str) -> bool:
        """Whether the figures of a node come to the count of all that was pushed; dead processes are started meanwhile."""
        return client.settle(self.supervisor.topology.node(code).port, self.truth, self.supervisor.tend)


@pytest.fixture(scope="session")
def built() -> None:
    """The page as its sources are now; whether anything has to be built is for make to know."""
    with alone("page"):
        subprocess.run(["make", "page"], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def ground(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A region, one prefecture and two counties as the demo names them; everything pushed has reached the region."""
    folder = tmp_path_factory.mktemp("page")
    nodes = {node["code"]: node for node in tomllib.loads(DEMO.read_text())["nodes"]}
    first = free_block()
    lines = []
    for place, code in enumerate((ROOT_NODE, MIDDLE, *LEAVES)):
        parent, names = nodes[code].get("parent"), nodes[code]["names"]
        above = f'parent = "{parent}", ' if parent else ""
        called = f'names = {{ zh = "{names["zh"]}", en = "{names["en"]}" }}'
        lines.append(f'  {{ code = "{code}", port = {first + 10 * place}, {above}{called} }},')
    names = {code: node["names"] for code, node in nodes.items()}
    with running(write(folder / "topology.toml", lines), folder / "state") as supervisor:
        ground = Ground(supervisor, folder / "state", names)
        pack = load_pack(supervisor.topology.pack)
        categories = [(c.code, float(c.limit_hours)) for c in pack.catalogue]
        for seed, code in enumerate(LEAVES):
            spots = e2e.spots(pack, code)
            ground.push(code, list(cases(seed, GENERATED, datetime.now(UTC), e2e.SOURCE, categories, spots, DAYS)))
        for provenance, count in OTHERS.items():
            ground.report(LEAVES[0], provenance, count, LONG_AGO if provenance == "replayed" else None)
        assert ground.settled(ROOT_NODE), client.figures(supervisor.topology.root.port, "origin,category")
        yield ground


@pytest.fixture(scope="module")
def chromium(built: None) -> Iterator[Running]:
    found = find()
    with sync_playwright() as p:
        running_browser = p.chromium.launch(executable_path=found.path, args=list(FLAGS), env={**os.environ, **found.env})
        yield running_browser
        running_browser.close()


@pytest.fixture
def page(chromium: Running) -> Iterator[Page]:
    """A fresh tab on a desk; whatever breaks in its scripts fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    faults: list[str] = []
    context.on("weberror", lambda error: faults.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert faults == []


def until(true: Callable[[], object], seconds: float, page: Page) -> float:
    """Wait until `true()`, looking at the page as it is without touching it; answers how many seconds that took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, f"not within {seconds:.0f} s"
        page.wait_for_timeout(100)
    return time.monotonic() - begun
