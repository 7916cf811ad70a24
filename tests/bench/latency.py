"""From a county's commit to the region's answer, in milliseconds, at a fixed number of filings a second on the demo federation.

Filings go to the counties in turn, in an open loop. Measured is the moment at which the region's own interface counts a case
minus the moment at which its county's 201 arrived. The region is asked over one connection, again 10 ms after each answer. The
facts of a county are sealed, sent and folded in order of writing, and the ids of its cases begin with the millisecond in which
the one writer made them; so once the region counts n cases of a county, the first n by id are among them. Each case is matched
with the first answer that counts it: the result is an upper bound, by at most one round of asking. (Two cases written in one
millisecond may be taken for each other; they come from one commit, and the sum of their waits is the same either way.)

The baseline sends raw messages of a fact's size at the same rate from the same counties' brokers through the same two hops of
sourcing, with the same durability; measured is the arrival at a consumer on the region's broker minus the publisher's
confirmation.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from time import perf_counter

import orjson

from tests.bench.client import Answer, Wire, connect, get, open_loop
from tests.bench.federation import COUNTS, Federation, counted, demo, running, say
from tests.bench.hops import hops
from tests.bench.line import Figure, Run, percentile

SECONDS, BREATH, PAUSE = 20.0, 1.0, 0.01
Polls = list[tuple[float, dict[str, int]]]


def measure(rate: int, scale: float, runs: int) -> Figure:
    seconds, found = max(1.0, SECONDS * scale), list[Run]()
    with running(demo()) as town:
        for number in range(runs):
            raw = asyncio.run(hops(town, rate, round(rate * seconds / 2)))
            lags, answered = asyncio.run(_run(town, rate, seconds, number))
            more = {"p50": percentile(lags, 0.5), "p99": percentile(lags, 0.99), "max": max(lags)}
            more |= {"answer_p99": percentile(answered, 0.99), "raw_p50": percentile(raw, 0.5)}
            found.append(Run(more["p99"], percentile(raw, 0.99), more))
            say(f"latency_{rate}: run {number + 1} of {runs}: p50 {more['p50']:.0f} ms, p99 {more['p99']:.0f} ms")
    size = f"{rate} filings/s for {seconds:g} s over {len(town.counties)} counties"
    return Figure("ms", "lower", size, "p99 of raw messages through the same brokers and hops at the same rate", found)


async def _run(town: Federation, rate: int, seconds: float, number: int) -> tuple[list[float], list[float]]:
    """(commit → region, due → 201), both in ms."""
    count, counties = round(rate * seconds), town.counties
    share = [count // len(counties) + (i < count % len(counties)) for i in range(len(counties))]
    requests = [town.filings(c, n, seed=number) for c, n in zip(counties, share, strict=True)]
    wire = await connect(town.port(town.root))
    poll = get(COUNTS, town.key(town.root))
    base = counted((await wire.ask(poll)).body)
    wanted = {c: base.get(c, 0) + n for c, n in zip(counties, share, strict=True)}
    watch = asyncio.create_task(_watch(wire, poll, wanted, perf_counter() + BREATH + seconds + 60))
    begin = perf_counter() + BREATH
    loads = [
        open_loop(town.port(c), r, rate / len(counties), begin + i / rate, connections=16)
        for i, (c, r) in enumerate(zip(counties, requests, strict=True))
    ]
    answers = await asyncio.gather(*loads)
    polls = await watch
    lags = [w for c, a in zip(counties, answers, strict=True) for w in waits(c, a, base.get(c, 0), polls)]
    return lags, [(a.done - a.due) * 1000 for some in answers for a in some]


async def _watch(wire: Wire, poll: bytes, wanted: dict[str, int], last: float) -> Polls:
    """Ask the region until it counts all; every answer with the moment of its arrival."""
    polls: Polls = []
    while not polls or any(polls[-1][1].get(c, 0) < n for c, n in wanted.items()):
        if perf_counter() > last:
            raise TimeoutError(f"the region counts {polls[-1][1]}, not {wanted}")
        answer = await wire.ask(poll)
        polls.append((answer.done, counted(answer.body)))
        await asyncio.sleep(PAUSE)
    wire.close()
    return polls


def waits(county: str, answers: Sequence[Answer], base: int, polls: Polls) -> list[float]:
    """For each acknowledged case of a county the time until the first poll that counts it, in ms."""
    if wrong := [a for a in answers if a.status != 201]:
        raise RuntimeError(f"a filing was answered {wrong[0].status}: {wrong[0].body[:300]!r}")
    ordered = sorted(answers, key=lambda a: str(orjson.loads(a.body)["id"]))
    seen = [counts.get(county, 0) - base for _, counts in polls]
    return [(polls[bisect_left(seen, n)][0] - a.done) * 1000 for n, a in enumerate(ordered, 1)]

