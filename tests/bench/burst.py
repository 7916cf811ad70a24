"""A burst: filings at 1, 15, 25 and 35 times a sustainable rate and back, at fixed moments whatever became of those before.

Each step lasts some seconds. Nothing but 201 and 503 with Retry-After may be answered; every acknowledged case must be there
afterwards; and the time until filings at the sustainable rate are as quick as before the burst is the figure.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx
import orjson

from tests.bench.client import Answer, open_loop
from tests.bench.federation import Federation, chain, demo, running, say
from tests.bench.line import Figure, Run, percentile

BASE, SECONDS, AFTER = 60.0, 4.0, 12.0
"""Filings a second that the county sustains with ease, seconds of each step, and how long the end is watched."""
FACTORS = (1, 15, 25, 35)


@dataclass
class Step:
    factor: int
    answers: list[Answer]

    @property
    def taken(self) -> list[Answer]:
        return [a for a in self.answers if a.status == 201]

    def told(self) -> str:
        waits = [a.done - a.due for a in self.taken] or [0.0]
        refused = len(self.answers) - len(self.taken)
        return f"{self.factor}x: {len(self.taken)} taken, {refused} told to wait, p99 {percentile(waits, 0.99) * 1000:.0f} ms"


def measure(scale: float, runs: int) -> Figure:
    seconds = max(1.0, SECONDS * scale)
    with running(chain(demo().leaves()[:1])) as town:
        found = [_run(town, seconds, number) for number in range(runs)]
    size = f"{BASE:g} filings/s times {', '.join(map(str, FACTORS))}, {seconds:g} s each, then {AFTER:g} s at {BASE:g}/s"
    raw = "p99 at the sustainable rate before the burst, as ms; the value is s until filings are as quick again"
    return Figure("s to recover", "lower", size, raw, found)


def _run(town: Federation, seconds: float, number: int) -> Run:
    before = town.reported(town.root).get(town.root, 0)
    calm = asyncio.run(_step(town, 1, seconds, number * 10))
    burst: list[Step] = []
    over = 0.0
    for factor in FACTORS:
        # When its last filing was due: what the node is still busy with then counts as recovering.
        over = time.perf_counter() + seconds
        burst.append(asyncio.run(_step(town, factor, seconds, number * 10 + factor)))
    for step in burst:
        say(f"burst: {step.told()}")
    after = asyncio.run(_step(town, 1, AFTER, number * 10 + 9))
    usual = percentile([a.done - a.due for a in calm.taken], 0.99)
    recovered = _recovered(after, over, max(0.05, 2 * usual))
    every = [calm, *burst, after]
    _only_what_may_be(every)
    taken = sum(len(s.taken) for s in every)
    _nothing_lost(town, {orjson.loads(a.body)["id"] for s in every for a in s.taken})
    town.await_reported(town.root, {town.root: before + taken})
    told = sum(len(s.answers) - len(s.taken) for s in every)
    return Run(recovered, usual * 1000, {"taken": taken, "told_to_wait": told, "p99_after": _p99(after) * 1000})


def _p99(step: Step) -> float:
    return percentile([a.done - a.due for a in step.taken], 0.99)


async def _step(town: Federation, factor: int, seconds: float, seed: int) -> Step:
    rate = BASE * factor
    requests = town.filings(town.root, round(rate * seconds), seed=1000 + seed)
    return Step(factor, await open_loop(town.port(town.root), requests, rate, time.perf_counter() + 0.1, connections=800))


def _recovered(after: Step, over: float, usual: float) -> float:
    """Seconds from the end of the burst until no filing waited longer than twice what was usual before it."""
    slow = [a.done for a in after.answers if a.status != 201 or a.done - a.due > usual]
    worst = max(slow, default=over)
    if worst >= max(a.done for a in after.answers) - 1:
        raise RuntimeError(f"{AFTER} s after the burst filings are still slower than {usual * 1000:.0f} ms")
    return max(0.0, worst - over)


def _only_what_may_be(steps: list[Step]) -> None:
    strange = [a for s in steps for a in s.answers if a.status not in (201, 503)]
    if strange:
        raise RuntimeError(f"{len(strange)} filings were answered otherwise: {strange[0].status} {strange[0].body[:300]!r}")


def _nothing_lost(town: Federation, acknowledged: set[str]) -> None:
    headers = {"Authorization": f"Bearer {town.key(town.root)}"}
    known, cursor = set[str](), ""
    with httpx.Client(base_url=f"http://127.0.0.1:{town.port(town.root)}", headers=headers, timeout=60) as line:
        while True:
            wanted = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
            page = line.get("/api/case/v1/cases", params=wanted).raise_for_status().json()
            known |= {c["id"] for c in page["items"]}
            if not (cursor := page["next"]):
                break
    if lost := acknowledged - known:
        raise RuntimeError(f"{len(lost)} of {len(acknowledged)} acknowledged filings are lost")
