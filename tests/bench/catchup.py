"""How long figures take to come right after an outage, in seconds, from the heal of a prefecture to equal figures at the region.

The prefecture's broker is killed, its counties accept 10,000 events meanwhile and have them folded and published at home, then
the broker is started again. Its own start and everybody's reconnecting are part of the time.

The baseline is a raw consumer on the prefecture's side that is sent the same messages over the same links at once, while all is
up: neither sourcing, nor disk, nor proof, nor counting.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from functools import partial
from typing import Any

import httpx

from deploy import client
from tests.bench.federation import Federation, demo, end, running, say, until
from tests.bench.line import Figure, Run
from tests.bench.wire import broker, deliver, facts

COUNT = 10_000


def measure(scale: float, runs: int) -> Figure:
    count, found = max(200, round(COUNT * scale)), list[Run]()
    for number in range(runs):
        with running(demo()) as town:
            found.append(_run(town, count, number))
        say(f"catchup_10k: run {number + 1} of {runs}: {found[-1].value:.2f} s, raw {found[-1].baseline:.3f} s")
    size = f"{count} events at the counties of one prefecture"
    raw = "a raw consumer on the prefecture's side is sent the same messages over the same links at once"
    return Figure("s", "lower", size, raw, found)


def _run(town: Federation, count: int, number: int) -> Run:
    topology = town.supervisor.topology
    above = topology.node(town.counties[0]).parent or town.root
    counties = [c.code for c in topology.children(above)]
    end(town.supervisor.brokers[above], signal.SIGKILL)
    wanted: client.Figures = {}
    for index, code in enumerate(counties):
        events = town.events(code, count // len(counties), seed=10 * number + index)
        town.push(code, events)
        wanted |= truth(code, events)
    for code in counties:
        own = {k: v for k, v in wanted.items() if k[0] == code}
        until(f"{code} counts its own", partial(_equal, town, code, own), 120)
    # A county's publisher may be a batch behind its figures.
    time.sleep(2)
    begun = time.perf_counter()
    town.supervisor.tend()
    until("the region's figures are equal", partial(_equal, town, town.root, wanted), 120)
    seconds = time.perf_counter() - begun
    total = count // len(counties) * len(counties)
    return Run(seconds, asyncio.run(_raw(town, above, counties, total)), {"events_per_s": total / seconds})


def truth(code: str, events: list[dict[str, Any]]) -> client.Figures:
    """What the events amount to, counted without any code of the services."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    kinds = {e["subject"]: e["data"]["category"] for e in events if e["id"].endswith(":reported")}
    for event in events:
        counts.setdefault((code, kinds[event["subject"]]), Counter())[event["type"].split(".")[-2]] += 1
    return {k: tuple(c[n] for n in client.QUANTITIES) for k, c in counts.items()}


def _equal(town: Federation, code: str, wanted: client.Figures) -> bool:
    try:
        return client.figures(town.port(code), "origin,category") == wanted
    except httpx.HTTPError:
        return False


async def _raw(town: Federation, above: str, counties: list[str], count: int) -> float:
    """Seconds until a consumer at the broker of `above` was sent `count` facts from the counties' streams."""
    there, all_there = 0, asyncio.Event()

    async def hear(message: Any) -> None:
        nonlocal there
        there += facts(message.data)
        if there >= count:
            all_there.set()

    async with broker(town.base, above) as line:
        begun = time.perf_counter()
        for code in counties:
            # The subject that the county's account may deliver to.
            to = f"dlv.{code}.bench"
            await deliver(line, f"EV_{code}", to, hear, subject=f"{code}.case", domain=f"{code}.")
        await asyncio.wait_for(all_there.wait(), 60)
        return time.perf_counter() - begun
