"""The demonstration: the demo federation with a stream of generated cases, until Ctrl-C."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deploy import e2e
from deploy.cli import table
from deploy.generate import cases
from deploy.supervisor import Supervisor
from deploy.topology import load
from services.grid.packs import load as load_pack

STATE = Path(".sanji/demo")
console = Console()


def fill(supervisor: Supervisor, seed: int, count: int) -> None:
    """Push `count` generated cases, spread over the counties, as their platforms would."""
    topology = supervisor.topology
    pack = load_pack(e2e.ROOT / topology.pack)
    categories = [(c.code, float(c.limit_hours)) for c in pack.catalogue[:12]]
    counties = e2e.leaves(topology)
    for index, code in enumerate(counties):
        key = e2e.key_of(supervisor.base, code)
        made = cases(seed + index, count // len(counties), datetime.now(UTC), e2e.SOURCE, categories, e2e.spots(pack, code))
        events = [event for case in made for event in case]
        for start in range(0, len(events), 200):
            supervisor.tend()
            e2e.push(topology.node(code).port, key, events[start : start + 200])


def main() -> None:
    supervisor = Supervisor(load(e2e.ROOT / "topologies" / "demo.toml"), STATE)
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: stop.append(n))
    console.print("starting seven nodes and their brokers ...")
    try:
        supervisor.up()
        console.print(table(supervisor))
        console.print("generated cases flow from four counties; [bold]Ctrl-C stops all of it[/bold], data stay in .sanji/demo")
        while not stop:
            fill(supervisor, int(time.time()), 40)
            supervisor.tend()
            time.sleep(1)
    finally:
        supervisor.stop()
        console.print("stopped")


if __name__ == "__main__":
    main()
