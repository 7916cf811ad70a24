"""Whole lives of cases over HTTP at a county that holds many: report, file (a rule dispatches), feed back, find by text.

Four calls a life, one after another on each connection, on SQLite and on PostgreSQL; every answer is checked, and the search
must find the very case. The baseline inserts the rows that the lives left (case, steps, facts) by raw SQLite, one FULL-sync
transaction for each group of the loop's size. Beside it `search_1m`: lists, queues and searches alone among the same old cases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from deploy import e2e, issuer
from services.case.tables import cases, steps
from shared.log import entries
from tests.bench.client import Answer, Wire, connect, get, post
from tests.bench.federation import Federation, chain, demo, running, say
from tests.bench.line import Figure, Run, percentile
from tests.bench.stock import Words, fill
from tests.bench.store import Raw, newest
from tests.databases import Server

CONNECTIONS = 32
LIVES = 1500
CATEGORY = "E0113"
API = "/api/case/v1"


@dataclass
class Town:
    """A county with old cases, and tokens of the roles that a life needs."""

    federation: Federation
    url: str

    @property
    def code(self) -> str:
        return self.federation.root

    @property
    def port(self) -> int:
        return self.federation.port(self.code)

    def token(self, role: str) -> str:
        topology = self.federation.supervisor.topology
        account = next(a for a, (r, _) in issuer.accounts(topology).items() if r == role)
        return issuer.token(self.federation.base, topology, account)

    def send_by_rule(self) -> None:
        """Let everything that is filed go to one department at once."""
        rules = [{"id": "all", "zh": "全部", "en": "all", "automatic": True, "when": {"kind": "all", "of": []},
                  "then": {"department": "sanitation"}}]  # fmt: skip
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as line:
            headers = {"Authorization": f"Bearer {self.token('administrator')}"}
            known = line.get(f"{API}/routing", headers=headers).raise_for_status().json()
            answer = line.put(f"{API}/routing", json={"edition": known["edition"], "rules": rules}, headers=headers)
            if answer.status_code != 200:
                raise RuntimeError(f"the rule was not taken: {answer.text[:300]}")


@contextmanager
def town(size: int, server: Server | None = None) -> Iterator[Town]:
    """A county on SQLite, or on a PostgreSQL server, whose database holds `size` cases."""
    topology = chain(demo().leaves()[:1])
    if server is not None:
        spec = topology.nodes[0].model_copy(update={"database_url": server.fresh()})
        topology = topology.model_copy(update={"nodes": (spec,)})
    with running(topology) as federation:
        url = topology.nodes[0].database_url or f"sqlite:///{federation.base}/{federation.root}/node.db"
        begun = time.perf_counter()
        fill(url, federation.root, federation.pack, size)
        say(f"lifecycle: {size} old cases in {time.perf_counter() - begun:.0f} s on {url.partition(':')[0]}")
        found = Town(federation, url)
        found.send_by_rule()
        yield found


def measure(size: int, scale: float, runs: int) -> Figure:
    lives, size = max(4 * CONNECTIONS, round(LIVES * scale)), max(1000, round(size * scale))
    found: list[Run] = []
    with town(size) as here:
        warm(here, lives)
        for number in range(runs):
            rate, waits = asyncio.run(lead(here, lives, number))
            found.append(Run(rate, _baseline(here, lives), _waits(waits)))
            say(f"lifecycle of {size}: run {number + 1} of {runs}: {rate:.0f}/s, p99 {found[-1].more['p99']:.0f} ms a life")
    server = Server()
    try:
        with town(size, server) as here:
            warm(here, lives)
            for run in found:
                run.more["postgresql"], waits = asyncio.run(lead(here, lives, len(found)))
                say(f"lifecycle of {size} on postgresql: {run.more['postgresql']:.0f}/s")
    finally:
        server.stop()
    size_said = f"{size} cases in the database, {lives} lives a run, {CONNECTIONS} connections; 4 calls a life"
    raw = f"SQLite alone: the rows of case, steps and facts, one FULL-sync transaction for {CONNECTIONS} lives"
    return Figure("lives/s", "higher", size_said, raw, found)


def warm(here: Town, lives: int) -> None:
    asyncio.run(lead(here, max(CONNECTIONS, lives // 10), 99))


def _waits(waits: list[float]) -> dict[str, float]:
    return {"p50": percentile(waits, 0.5) * 1000, "p99": percentile(waits, 0.99) * 1000}


async def lead(here: Town, lives: int, seed: int) -> tuple[float, list[float]]:
    """(lives a second, seconds that each life took), each from its report until the search found it."""
    said, spots = Words(seed), e2e.spots(here.federation.pack, here.code)
    keys = {r: here.token(r) for r in ("collector", "shift_supervisor", "department", "auditor")}
    queue = iter(range(lives))
    waits: list[float] = []

    async def work(wire: Wire) -> None:
        for number in queue:
            began = time.perf_counter()
            mark = f"lamp{seed:02d}{number:05d}"
            lon, lat = spots[number % len(spots)]
            report = {"category": CATEGORY, "lon": lon, "lat": lat, "text": f"{said.sentence()}，{mark}"}
            made = _good(await wire.ask(post(f"{API}/cases", orjson.dumps(report), keys["collector"])), 201)
            where = f"{API}/cases/{made['id']}/actions"
            file = {"action": "file", "version": 1, "condition": "1"}
            sent = _good(await wire.ask(post(where, orjson.dumps(file), keys["shift_supervisor"])), 200)
            done = {"action": "handle", "version": sent["version"]}
            handled = _good(await wire.ask(post(where, orjson.dumps(done), keys["department"])), 200)
            page = _good(await wire.ask(get(f"{API}/cases?limit=20&text={quote(mark)}", keys["auditor"])), 200)
            if handled["state"] != "handled" or [c["id"] for c in page["items"]] != [made["id"]]:
                raise RuntimeError(f"the life of {mark} did not come to its end: {handled['state']}, {len(page['items'])} found")
            waits.append(time.perf_counter() - began)
        wire.close()

    wires = [await connect(here.port) for _ in range(CONNECTIONS)]
    begun = time.perf_counter()
    await asyncio.gather(*(work(w) for w in wires))
    return lives / (time.perf_counter() - begun), waits


def _good(answer: Answer, status: int) -> dict[str, Any]:
    if answer.status != status:
        raise RuntimeError(f"answered {answer.status}: {answer.body[:300]!r}")
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def _baseline(here: Town, lives: int) -> float:
    like = here.federation.base / here.code / "node.db"
    each = {cases.name: 1, steps.name: 3, entries.name: 7}
    rows = {name: newest(like, name, lives * n) for name, n in each.items()}
    raw = Raw(here.federation.base / "raw.db", like, list(rows))
    begun = time.perf_counter()
    for start in range(0, lives, CONNECTIONS):
        raw.commit({t: r[start * each[t] : (start + CONNECTIONS) * each[t]] for t, r in rows.items()})
    seconds = time.perf_counter() - begun
    raw.close()
    return lives / seconds


QUESTIONS = 400


def search(scale: float, runs: int) -> Figure:
    """Lists, queues and searches of every kind among a million cases, one at a time: how long 99 of 100 take at most."""
    size = max(1000, round(1_000_000 * scale))
    with town(size) as here:
        found = [_asked(here, number, round(max(80, QUESTIONS * scale))) for number in range(runs)]
    server = Server()
    try:
        with town(size, server) as here:
            for run in found:
                other = _asked(here, 9, round(max(80, QUESTIONS * scale)))
                run.more["postgresql"] = other.value
    finally:
        server.stop()
    raw = "the same server's /livez on the same connection, p99"
    return Figure("ms, p99", "lower", f"{size} cases, {QUESTIONS} questions a run of 12 kinds, one at a time", raw, found)


def _asked(here: Town, seed: int, count: int) -> Run:
    key, words = here.token("auditor"), Words(7)
    words.dice.seed(seed)
    desk = here.token("department")
    kinds: list[Callable[[], tuple[str, str]]] = [
        lambda: (f"cases?text={quote(words.some(1)[0])}", key),
        lambda: (f"cases?text={quote(words.some(1)[0][0])}", key),
        lambda: (f"cases?text={quote(words.some(1)[0])}%20{quote(words.some(1)[0])}", key),
        lambda: (f"cases?text={quote(words.some(1)[0][0])}&state=handling", key),
        lambda: (f"cases?text={words.dice.randrange(10_000_000):07d}", key),
        lambda: (f"cases?text={quote(words.some(1)[0])}&category={CATEGORY}", key),
        lambda: ("cases?limit=50", key),
        lambda: (f"cases?state=closed&category={CATEGORY}&limit=50", key),
        lambda: ("cases?overdue=true&limit=50", key),
        lambda: (f"cases?department=office-{words.dice.randrange(40)}&sort=due&limit=50", key),
        lambda: ("queue?limit=50", desk),
        lambda: ("queue/counts", desk),
    ]
    asked = [kinds[n % len(kinds)]() for n in range(count)]
    waits = asyncio.run(_one_by_one(here.port, [get(f"{API}/{path}", token) for path, token in asked]))
    empty = asyncio.run(_one_by_one(here.port, [get("/livez", key)] * count))
    by_kind = {f"p99_{n}": percentile(waits[n :: len(kinds)], 0.99) * 1000 for n in range(len(kinds))}
    more = {"p50": percentile(waits, 0.5) * 1000} | by_kind
    return Run(percentile(waits, 0.99) * 1000, percentile(empty, 0.99) * 1000, more)


async def _one_by_one(port: int, requests: list[bytes]) -> list[float]:
    wire, waits = await connect(port), []
    for request in requests:
        began = time.perf_counter()
        answer = await wire.ask(request)
        if answer.status != 200:
            raise RuntimeError(f"{request[:120]!r} was answered {answer.status}: {answer.body[:300]!r}")
        waits.append(time.perf_counter() - began)
    wire.close()
    return waits
