"""Brings a public record of cases into running counties: at once (import) or paced as if it were happening (replay).

Everything goes through the push interface, so that a file is believed no more than a platform. Interrupting is harmless: events
are known by (source, id), and what was answered is remembered beside the data, so that the next run goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from deploy import client
from deploy.mapping import Mapping, events, place, rows
from deploy.topology import Topology
from services.grid.packs import load as load_pack

ROOT = Path(__file__).resolve().parent
BATCH = 250
Plan = dict[str, list[dict[str, Any]]]
"""Events by county, each county's in order of time."""


def planned(file: Path, mapping: Mapping, topology: Topology, into: str | None = None) -> Plan:
    """The events of the whole record. With `into` all go to that node, at the places that the record names; without it each
    record is placed onto a county by its id, always the same."""
    cells = load_pack(ROOT / topology.pack).cells.cells
    leaves = [into] if into else topology.leaves()
    counties = {code: [c for c in cells if c.division.startswith(code)] for code in leaves}
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {code: [] for code in leaves}
    for row in rows(file, mapping):
        spot, told = None if into else place(str(row["id"]), counties), ""
        for event in events(row, mapping, spot):
            # A step dated before the one it follows is sent after it all the same, so that it is refused for its own fault.
            told = max(told, str(event["time"]))
            found[spot.county if spot else leaves[0]].append((told, event))
    # Stable: the steps of one case that share a moment keep their order. What is no time is refused wherever it stands.
    return {code: [event for _, event in sorted(told, key=lambda pair: pair[0])] for code, told in found.items()}


def span(plan: Plan) -> float:
    """Seconds from the first event of the record to the last."""
    times = [datetime.fromisoformat(e["time"]) for county in plan.values() for e in county[:1] + county[-1:]]
    return (max(times) - min(times)).total_seconds() if times else 0.0


@dataclass
class Replay:
    """Pushes a plan into the counties of a running federation whose data lie in `base`; every county at its own pace."""

    plan: Plan
    dataset: str
    topology: Topology
    base: Path
    speed: float | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.source = f"urn:import:{self.dataset}"
        self.total = sum(len(events) for events in self.plan.values())
        self.begun = time.monotonic()
        left = [events[self._position(c)]["time"] for c, events in self.plan.items() if self._position(c) < len(events)]
        self.first = min(left, default="")

    def run(self, tell: Callable[[Replay], None] = lambda _: None) -> None:
        """Push all that was not answered yet; `tell` is called now and then. Ends early when `stop` is set."""
        with ThreadPoolExecutor(len(self.plan)) as pool:
            jobs = [pool.submit(self._county, code, events) for code, events in self.plan.items()]
            try:
                while not all(job.done() for job in jobs):
                    tell(self)
                    time.sleep(0.2)
            except BaseException:
                self.stop.set()
                raise
            for job in jobs:
                job.result()
        tell(self)

    def all_refused(self) -> list[dict[str, Any]]:
        """Everything that was refused in this run and in those before it."""
        path = self._list()
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def _list(self) -> Path:
        return self.base / f"import-{self.dataset}.refused.ndjson"

    def _mark(self, county: str) -> Path:
        return self.base / f"import-{self.dataset}-{county}.position"

    def _position(self, county: str) -> int:
        mark = self._mark(county)
        return int(mark.read_text()) if mark.exists() else 0

    def _county(self, code: str, events: list[dict[str, Any]]) -> None:
        port, key = self.topology.node(code).port, client.key_of(self.base, code, self.source)
        start = self._position(code)
        with self._lock:
            self.done += start
        while start < len(events) and not self.stop.is_set():
            part = self._due(events, start)
            items = client.push(port, key, part)
            start += len(part)
            self._mark(code).write_text(str(start))
            self._note(code, items, len(part))

    def _due(self, events: list[dict[str, Any]], start: int) -> list[dict[str, Any]]:
        """The next events; in a paced replay only those whose moment has come, and at least the next one, waited for."""
        if not self.speed:
            return events[start : start + BATCH]
        wait = self._seconds(events[start]["time"]) - (time.monotonic() - self.begun)
        self.stop.wait(max(0.0, wait))
        passed = time.monotonic() - self.begun
        end = start + 1
        while end < min(len(events), start + BATCH) and self._seconds(events[end]["time"]) <= passed:
            end += 1
        return events[start:end]

    def _seconds(self, moment: str) -> float:
        """Seconds after the begin of this run at which the moment is due."""
        passed = datetime.fromisoformat(moment) - datetime.fromisoformat(self.first)
        return passed.total_seconds() / (self.speed or 1)

    def _note(self, code: str, items: list[dict[str, Any]], count: int) -> None:
        with self._lock:
            self.done += count
            self.outcomes.update(item["outcome"] for item in items)
            fresh = [{"node": code, **item} for item in items if item["outcome"] == "refused"]
            self.refused += fresh
            if fresh:
                with self._list().open("ab") as file:
                    file.writelines(orjson.dumps(item) + b"\n" for item in fresh)
