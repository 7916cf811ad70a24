"""Brings a public record of cases into running counties: at once (import) or paced as if it were happening (replay).

Everything goes through the push interface, so that a file is believed no more than a platform. Interrupting is harmless: events
are known by (source, id), and what was answered is remembered beside the data, so that the next run goes on from there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.e2e import leaves, push
from deploy.mapping import Mapping, events, place, rows
from deploy.topology import Topology
from services.grid.packs import load as load_pack
from shared.auth import new_key
from shared.database import open_engine
from shared.settings import load as load_node

ROOT = Path(__file__).resolve().parent
BATCH = 500
Report = Callable[[int, int, Counter[str]], None]


def planned(file: Path, mapping: Mapping, topology: Topology) -> list[tuple[str, dict[str, Any]]]:
    """(county, event) of the whole record in order of time; each record is placed onto a county by its id, always the same."""
    cells = load_pack(ROOT / topology.pack).cells.cells
    counties = {code: [c for c in cells if c.division.startswith(code)] for code in leaves(topology)}
    found = []
    for row in rows(file, mapping):
        spot = place(str(row["id"]), counties)
        found += [(spot.county, event) for event in events(row, mapping, spot)]
    # Stable: the steps of one case that share a moment keep their order.
    return sorted(found, key=lambda pair: str(pair[1]["time"]))


def replay(
    file: Path, mapping: Mapping, topology: Topology, base: Path, tell: Report, *, speed: float | None = None
) -> Counter[str]:
    """Push the record; `speed` = seconds of the record in one second, None = as fast as it is taken. Answers the outcomes."""
    plan = planned(file, mapping, topology)
    source = f"urn:import:{mapping.dataset}"
    mark = base / f"import-{mapping.dataset}.position"
    done = int(mark.read_text()) if mark.exists() else 0
    keys = {code: _key(base, code, source) for code in leaves(topology)}
    outcomes: Counter[str] = Counter()
    begun, first = time.monotonic(), plan[done][1]["time"] if done < len(plan) else ""
    for start, part in _batches(plan, done):
        if speed:
            _wait(part[-1][1]["time"], first, begun, speed)
        for county in keys:
            mine = [event for code, event in part if code == county]
            if mine:
                outcomes += push(topology.node(county).port, keys[county], mine)
        mark.write_text(str(start + len(part)))
        tell(start + len(part), len(plan), outcomes)
    return outcomes


def _batches(plan: list[tuple[str, dict[str, Any]]], done: int) -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
    for start in range(done, len(plan), BATCH):
        yield start, plan[start : start + BATCH]


def _wait(until: str, first: str, begun: float, speed: float) -> None:
    passed = (datetime.fromisoformat(until) - datetime.fromisoformat(first)).total_seconds() / speed
    time.sleep(max(0.0, passed - (time.monotonic() - begun)))


def _key(base: Path, code: str, source: str) -> str:
    node = load_node(base / code / "node.json")
    return new_key(open_engine(node.database_url), code, "integrator", source, days=1)
