"""Facts folded a second at the root, for a backlog that waits in the root's own stream.

A county's platform pushes real events while the root's node is down; the county seals and publishes the facts, the root's
stream sources them. Then the root's node starts with an empty database and the time runs from its first folded batch to the
last, as its own interface tells it; start-up is not counted. In the end the root must find no difference between its totals and
a recount.

The baseline pulls the same messages from the same stream with the same client in the same portions, inserts the rows that the
root holds after them (one a fact, one a case) into the same tables by raw SQLite, one FULL-sync commit a message, and
acknowledges. `raw_plain` inserts them into tables without any index or constraint. `raw_single` has every fact in a message of
its own and commits for 300 of them, which is what the bus would carry if facts were not sent in batches. None of them verifies,
parses or counts.
"""

from __future__ import annotations

import asyncio
import time

import httpx

from services.evaluation.tables import cases
from shared.log import entries
from tests.bench.federation import Federation, chain, demo, end, pid, running, say, until
from tests.bench.line import Figure, Run
from tests.bench.machine import processor
from tests.bench.pull import Rows, messages, one_by_one, raw
from tests.bench.store import newest
from tests.bench.wire import broker, forget_consumers

COUNT, SINGLE = 100_000, 10_000


def measure(scale: float, runs: int) -> Figure:
    count = max(1000, round(COUNT * scale))
    whole = demo()
    with running(chain([whole.root.code, whole.leaves()[0]])) as town:
        _backlog(town, count)
        found = []
        for number in range(runs):
            found.append(_run(town, count))
            say(f"fold: run {number + 1} of {runs}: {found[-1].value:.0f}/s, raw {found[-1].baseline:.0f}/s")
        town.recount(town.root)
        say("fold: a recount of the facts finds no difference")
    size = f"{count} facts of one county"
    what = "raw pull of the same messages, raw insert of the same rows into the same tables, one FULL-sync commit a message"
    return Figure("facts/s", "higher", size, what, found)


def _subjects(town: Federation) -> tuple[str, str]:
    """Of the county's facts in the root's stream, and of the root's own messages that no service hears."""
    return f"{town.counties[0]}.{town.counties[0]}.case", f"{town.root}.bench"


def _backlog(town: Federation, count: int) -> None:
    """Fill the root's stream while its node is down, and wait until all is there."""
    end(town.supervisor.nodes[town.root])
    events = town.events(town.counties[0], count, seed=1)
    for start in range(0, count, 10_000):
        town.push(town.counties[0], events[start : start + 10_000])
        say(f"fold: {min(start + 10_000, count)} of {count} facts stated")
    asyncio.run(_arrived(town, count))
    asyncio.run(one_by_one(town.base, town.root, *_subjects(town), min(count, SINGLE)))


async def _arrived(town: Federation, count: int) -> None:
    async with broker(town.base, town.root) as connection:
        async for portion in messages(connection, f"EV_{town.root}", _subjects(town)[0], count):
            await asyncio.gather(*(m.ack() for m in portion))


def _run(town: Federation, count: int) -> Run:
    """One start of the root's node on an empty database, then the same by raw means."""
    for file in (town.base / town.root).glob("node.db*"):
        file.unlink()
    asyncio.run(forget_consumers(town.base, town.root))
    town.supervisor.tend()
    node = pid(town.supervisor.nodes[town.root])
    behind, begun = _after(town, 1), time.perf_counter()
    used = processor(node)
    _after(town, count)
    seconds, used = time.perf_counter() - begun, processor(node) - used
    end(town.supervisor.nodes[town.root])
    baseline, more = _raw(town, count)
    return Run((count - behind) / seconds, baseline, more | {"cpu": used / seconds})


def _after(town: Federation, wanted: int) -> int:
    """Wait until the root verified and folded at least `wanted` facts; answers how many it had then."""
    url = f"http://127.0.0.1:{town.port(town.root)}/api/evaluation/v1/links"

    def verified() -> int:
        try:
            seq = int(httpx.get(url, timeout=20).json()["links"][0]["verified_seq"])
        except httpx.TransportError:
            return 0
        return seq if seq >= wanted else 0

    return until(f"{wanted} facts folded", verified, 300)


def _raw(town: Federation, count: int) -> tuple[float, dict[str, float]]:
    """The baseline and its variants, in facts a second."""
    like = town.base / town.root / "node.db"
    tables = {entries.name: newest(like, entries.name, count), cases.name: newest(like, cases.name, count)}
    some = min(count, SINGLE)
    first = {t: rows[: len(rows) * some // count] for t, rows in tables.items()}
    batched, single = _subjects(town)
    whole = Rows(tables, count, like)
    plain = asyncio.run(raw(town.base, town.root, batched, whole, indexes=False))
    singly = asyncio.run(raw(town.base, town.root, single, Rows(first, some, like), single=True))
    return asyncio.run(raw(town.base, town.root, batched, whole)), {"raw_plain": plain, "raw_single": singly}
