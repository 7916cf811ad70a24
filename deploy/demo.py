"""The demonstration: the demo federation with generated cases that go on happening, or with a record played through it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from deploy import client, issuer, views
from deploy.cli import run as bring
from deploy.e2e import BATCH, SOURCE, spots
from deploy.generate import Life, cases
from deploy.mapping import PREFIX, Mapping
from deploy.replay import Plan, Replay, planned, span
from deploy.supervisor import Supervisor
from deploy.topology import load
from services.grid.packs import load as load_pack

ROOT = Path(__file__).resolve().parent
TOPOLOGY = ROOT / "topologies" / "demo.toml"
HISTORY, DAYS, REPORTS = 1200, 30, 2.0
"""Generated cases a county starts with, over how many days they came, and how many come in an average minute from then on."""
MINUTE = 60.0
console = Console()


@dataclass
class County:
    """One county's own platform: pushes a month of history once, then what happens; goes on where it was after a restart."""

    supervisor: Supervisor
    code: str
    seed: int
    pushed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        topology, base = self.supervisor.topology, self.supervisor.base
        pack = load_pack(ROOT / topology.pack)
        categories = [(c.code, float(c.limit_hours)) for c in pack.catalogue]
        places, self.key = spots(pack, self.code), client.key_of(base, self.code, SOURCE)
        zone = topology.zone_of(self.code)
        life = Life(self.seed, SOURCE, categories, places, per_minute=REPORTS, zone=zone)
        memory = base / f"generator-{self.code}.json"
        if memory.exists():
            life.load(orjson.loads(memory.read_bytes()))
        else:
            made = cases(self.seed, HISTORY, datetime.now(UTC), SOURCE, categories, places, DAYS, zone=zone)
            self._push([event for case in made for event in case])
        while not self.stop.wait(0.5):
            self._push(life.tick(datetime.now(UTC)))
            fresh = memory.with_suffix(".new")
            fresh.write_bytes(orjson.dumps(life.save()))
            fresh.replace(memory)

    def _push(self, events: list[dict[str, Any]]) -> None:
        """Push all of them; a node that is down is waited for, however long, as a platform would."""
        start = 0
        while start < len(events) and not self.stop.is_set():
            try:
                part = events[start : start + BATCH]
                client.push(self.supervisor.topology.node(self.code).port, self.key, part, patience=5)
            except TimeoutError:
                continue
            start += len(part)
            self.pushed += len(part)


def main(
    data: Annotated[Path | None, typer.Option(help="CSV or Parquet record to play through the counties", exists=True)] = None,
    mapping: Annotated[Path | None, typer.Option(help="how the record is read", exists=True)] = None,
    speed: Annotated[float, typer.Option(help="seconds of the record in one second; 0: the whole in about a minute")] = 0,
    state: Annotated[Path | None, typer.Option(help="folder that holds all data")] = None,
) -> None:
    """Run the demonstration until Ctrl-C; starting again goes on with the data."""
    base = state or Path(".sanji") / (f"replay-{data.stem}" if data else "demo")
    supervisor = Supervisor(load(TOPOLOGY), base)
    console.print(f"starting {len(supervisor.nodes)} nodes and their brokers, data in {base} ...")
    begun = time.monotonic()
    try:
        supervisor.up()
        console.print(f"ready after {time.monotonic() - begun:.1f} s: open {supervisor.topology.root.url}")
        _accounts(supervisor)
        if data:
            _play(supervisor, data, Mapping.load(mapping) if mapping else Mapping.of(data), speed)
        else:
            _live(supervisor)
    except TimeoutError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    finally:
        supervisor.stop()
        console.print("stopped")


def _accounts(supervisor: Supervisor) -> None:
    names = list(issuer.accounts(supervisor.topology))
    console.print(f"demo accounts: {', '.join(names)}", style="dim")
    where = f"--topology {_short(TOPOLOGY)} --state {_short(supervisor.base)}"
    console.print(f"a token of one: .venv/bin/sanji token {names[0]} {where}")


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _watch(supervisor: Supervisor, step: Callable[[], str]) -> None:
    views.watch(supervisor, console, lambda: load(TOPOLOGY), step)


def _live(supervisor: Supervisor) -> None:
    """Let the counties' platforms push until Ctrl-C."""
    counties = [County(supervisor, code, seed) for seed, code in enumerate(supervisor.topology.leaves())]
    threads = [threading.Thread(target=county.run, name=county.code) for county in counties]
    for thread in threads:
        thread.start()
    try:
        _watch(supervisor, lambda: f"generated cases flow: {sum(c.pushed for c in counties)} events pushed. Ctrl-C stops all.")
    finally:
        for county in counties:
            county.stop.set()
        for thread in threads:
            thread.join()


def _play(supervisor: Supervisor, data: Path, mapping: Mapping, speed: float) -> None:
    """Play the record, compare the root's figures with a count of its events, then stay up."""
    console.print(f"{data.name}: its cases are placed onto the demo counties by their id; the page says that they are replayed")
    plan = planned(data, mapping, supervisor.topology)
    replay = Replay(plan, mapping.dataset, supervisor.topology, supervisor.base, speed or max(1.0, span(plan) / MINUTE))
    over = threading.Event()
    tending = threading.Thread(target=_tend, args=(supervisor, over))
    tending.start()
    try:
        bring(replay, plan)
        equal = client.settle(supervisor.topology.root.port, counted(plan, replay), lambda: None)
        console.print(f"the root's figures {'equal' if equal else '[red]DIFFER FROM[/red]'} a recount of the record")
    finally:
        over.set()
        tending.join()
    _watch(supervisor, lambda: f"replayed {replay.total} events of {data.name}. Ctrl-C stops all.")


def _tend(supervisor: Supervisor, over: threading.Event) -> None:
    while not over.wait(0.2):
        supervisor.tend()


def counted(plan: Plan, replay: Replay) -> dict[tuple[str, ...], Counter[str]]:
    """What the events of the plan say by county and category, less those that were refused."""
    refused = {(item["node"], item["id"]) for item in replay.all_refused()}
    found: dict[tuple[str, ...], Counter[str]] = {}
    for code, events in plan.items():
        told = [e for e in events if (code, e["id"]) not in refused]
        category = {e["subject"]: e["data"]["category"] for e in told if e["type"] == f"{PREFIX}reported.v1"}
        for event in told:
            if event["subject"] in category:
                key = (code, category[event["subject"]])
                found.setdefault(key, Counter())[event["type"].split(".")[-2]] += 1
    return found


if __name__ == "__main__":
    typer.run(main)
