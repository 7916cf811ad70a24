"""Durable filings a second over HTTP at one county: a real process, a real broker, SQLite with FULL sync, a closed loop.

Before a filing counts, its 201 must be found again after a kill -9 of the node. The baseline inserts the very rows that the
filings left (case and fact) into the same tables by raw SQLite, one FULL-sync transaction for every group of the loop's size.
`livez` is what the same HTTP server reaches on a route that does nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import repeat
from statistics import mean

import httpx
import orjson

from services.case.tables import cases
from shared.log import entries
from tests.bench.client import Answer, closed_loop, get
from tests.bench.federation import Federation, chain, demo, end, pid, running, say, until
from tests.bench.line import Figure, Run, percentile
from tests.bench.machine import processor
from tests.bench.store import Raw, newest

CONNECTIONS = 64
"""More only lengthens the queue in front of the writer: the rate stays, the waiting grows."""

COUNT, WARM = 6000, 2 * CONNECTIONS


def measure(scale: float, runs: int) -> Figure:
    count = max(2 * CONNECTIONS, round(COUNT * scale))
    with running(chain(demo().leaves()[:1])) as town:
        acknowledged, found = set[str](), list[Run]()
        for number in range(runs):
            run, ids = _run(town, count, number)
            acknowledged |= ids
            found.append(run)
            say(f"filings: run {number + 1} of {runs}: {run.value:.0f}/s, p99 {run.more['p99']:.0f} ms")
        _nothing_lost(town, acknowledged)
    size = f"{count} filings a run, {CONNECTIONS} connections"
    raw = f"SQLite alone: the same rows of case and fact, one FULL-sync transaction for {CONNECTIONS}"
    return Figure("filings/s", "higher", size, raw, found)


def _run(town: Federation, count: int, number: int) -> tuple[Run, set[str]]:
    code, port = town.root, town.port(town.root)
    requests = town.filings(code, WARM + count, seed=number)
    before = town.reported(code).get(code, 0)
    warm = asyncio.run(closed_loop(port, requests[:WARM], CONNECTIONS))
    node, broker = pid(town.supervisor.nodes[code]), pid(town.supervisor.brokers[code])
    used, own, begun = processor(node) + processor(broker), processor(os.getpid()), time.perf_counter()
    answers = asyncio.run(closed_loop(port, requests[WARM:], CONNECTIONS))
    seconds = time.perf_counter() - begun
    used, own = processor(node) + processor(broker) - used, processor(os.getpid()) - own
    town.await_reported(code, {code: before + WARM + count})
    folded = time.perf_counter() - begun
    waits = [(a.done - a.due) * 1000 for a in answers]
    more = {
        "p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99), "mean": mean(waits), "livez": _livez(town, count),
        "cpu": used / seconds, "client_cpu": own / seconds, "until_counted_per_s": count / folded,
    }  # fmt: skip
    return Run(count / seconds, _baseline(town, count), more), {_id(a) for a in (*warm, *answers)}


def _id(answer: Answer) -> str:
    if answer.status != 201:
        raise RuntimeError(f"a filing was answered {answer.status}: {answer.body[:300]!r}")
    return str(orjson.loads(answer.body)["id"])


def _livez(town: Federation, count: int) -> float:
    request, begun = get("/livez", town.key(town.root)), time.perf_counter()
    answers = asyncio.run(closed_loop(town.port(town.root), repeat(request, count), CONNECTIONS))
    if any(a.status != 200 for a in answers):
        raise RuntimeError("the trivial route does not answer 200")
    return count / (time.perf_counter() - begun)


def _baseline(town: Federation, count: int) -> float:
    """The rows that the run left, put again into the same tables of an empty database, a second."""
    like = town.base / town.root / "node.db"
    rows = {t.name: newest(like, t.name, count) for t in (cases, entries)}
    raw = Raw(town.base / "raw.db", like, list(rows))
    begun = time.perf_counter()
    for start in range(0, count, CONNECTIONS):
        raw.commit({t: r[start : start + CONNECTIONS] for t, r in rows.items()})
    seconds = time.perf_counter() - begun
    raw.close()
    return count / seconds


def _nothing_lost(town: Federation, acknowledged: set[str]) -> None:
    """Kill the node with signal 9, let it start again, and find every acknowledged case in its list and in its figures."""
    code = town.root
    end(town.supervisor.nodes[code], signal.SIGKILL)
    town.supervisor.up()
    headers = {"Authorization": f"Bearer {town.key(code)}"}
    known, cursor = set[str](), ""
    with httpx.Client(base_url=f"http://127.0.0.1:{town.port(code)}", headers=headers, timeout=20) as client:
        for _ in range(len(acknowledged) // 1000 + 2):
            wanted = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
            page = client.get("/api/case/v1/cases", params=wanted).raise_for_status().json()
            known |= {c["id"] for c in page["items"]}
            if not (cursor := page["next"]):
                break
    if lost := acknowledged - known:
        raise RuntimeError(f"{len(lost)} of {len(acknowledged)} acknowledged filings are lost")
    until("the figures hold every filing", lambda: town.reported(code) == {code: len(acknowledged)}, 60)
    say(f"filings: all {len(acknowledged)} acknowledged ones are there after a kill -9")
