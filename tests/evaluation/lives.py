"""Made-up lives of cases under a seed, as facts, and what they come to, counted by hand from the facts alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from contracts.base import Fact
from contracts.case import (
    CaseClosed,
    CaseDispatched,
    CaseFact,
    CaseFiled,
    CaseHandled,
    CaseRefused,
    CaseReported,
    CaseReworked,
    Place,
)
from services.evaluation.handlers import READER, fold
from services.evaluation.tables import cases, totals
from shared import log as logs
from shared.reader import Reader

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
QUANTITIES = ("reported", "refused", "filed", "closed", "closed_on_time", "reworked")
CATEGORIES, ORIGINS = ("E0101", "E0102", "P0101"), ("650102", "650103", "654002", "654003")
PROVENANCES = ("live", "imported", "replayed", "generated")


def division(origin: str, dice: random.Random) -> str:
    """One of the four communities of a demo county."""
    return f"{origin}99{dice.choice('01')}00{dice.choice('12')}"


def told(fact: type[Fact], case: str, at: datetime, **more: Any) -> Any:
    return fact(time=at, day=at.date().isoformat(), case=case, **more)  # type: ignore[call-arg]


def life(case: str, origin: str, dice: random.Random) -> list[CaseFact]:
    """A case from its report as far as it came; times are whole minutes, so that equal moments are met."""
    at = BEGIN + timedelta(minutes=dice.randrange(0, 6 * 1440))

    def pass_() -> datetime:
        nonlocal at
        at += timedelta(minutes=dice.choice((0, 1, 30, 600, 2000)))
        return at

    place = Place(lon=87.6, lat=43.7, division=division(origin, dice), cell=None)
    named = {"number": f"n{case}", "category": dice.choice(CATEGORIES), "edition": "e", "channel": "hotline"}
    found = [told(CaseReported, case, at, **named, provenance=dice.choice(PROVENANCES), place=place)]
    if dice.random() < 0.15:
        return [*found, told(CaseRefused, case, pass_(), reason="other")]
    if dice.random() < 0.1:
        return found
    due = at + timedelta(minutes=dice.choice((60, 1440, 5000)))
    found.append(told(CaseFiled, case, pass_(), due=due))
    while dice.random() < 0.85:
        found += [told(CaseDispatched, case, pass_(), department="lamps"), told(CaseHandled, case, pass_())]
        if dice.random() < 0.75:
            kept = at <= due
            return [*found, told(CaseClosed, case, pass_(), on_time=kept, opened=found[0].day)]
        found.append(told(CaseReworked, case, pass_()))
    return found


def told_by(origin: str, count: int, seed: int) -> list[CaseFact]:
    """The log of one origin: lives woven into one another, each in its own order."""
    dice = random.Random(f"{seed} {origin}")
    waiting = [life(f"{origin}-{n}", origin, dice) for n in range(count)]
    log = []
    while waiting:
        one = dice.choice(waiting)
        log.append(one.pop(0))
        waiting = [w for w in waiting if w]
    return log


@dataclass
class Count:
    """What one group comes to."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*QUANTITIES, "open", "overdue_open"), 0))
    spans: list[int] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        spans, base = sorted(self.spans), self.counts["closed"] + self.counts["overdue_open"]
        middle: float | None = None
        if spans:
            half = len(spans) // 2
            middle = spans[half] if len(spans) % 2 else (spans[half - 1] + spans[half]) / 2
        return self.counts | {"median_seconds": middle, "on_time_rate": self.counts["closed_on_time"] / base if base else None}


Row = dict[str, str]
Keys = Callable[[Row], Sequence[tuple[str, ...]]]


def count(told: dict[str, list[CaseFact]], at: str, keys: Keys, wanted: Callable[[Row], bool]) -> dict[tuple[str, ...], Count]:
    """Every fact by hand: `keys` says to which groups a row {origin, division, category, provenance, day} belongs."""
    found: dict[tuple[str, ...], Count] = {}
    instant = datetime.fromisoformat(at)
    for origin, log in told.items():
        lives: dict[str, list[CaseFact]] = {}
        for fact in log:
            lives.setdefault(fact.case, []).append(fact)
        for one in lives.values():
            first = one[0]
            assert isinstance(first, CaseReported)
            row = {"origin": origin, "division": first.place.division, "category": first.category, "provenance": first.provenance}
            for fact in one:
                names = {CaseReported: ["reported"], CaseRefused: ["refused"], CaseFiled: ["filed"], CaseReworked: ["reworked"]}
                what = names.get(type(fact), [])
                if isinstance(fact, CaseClosed):
                    what = ["closed", "closed_on_time"] if fact.on_time else ["closed"]
                whole = row | {"day": fact.day}
                for key in keys(whole) if what and wanted(whole) else ():
                    for name in what:
                        found.setdefault(key, Count()).counts[name] += 1
            timeless = row | {"day": ""}
            for key in keys(timeless) if wanted(timeless) else ():
                _state(found, key, one, instant)
    return found


def _state(found: dict[tuple[str, ...], Count], key: tuple[str, ...], one: list[CaseFact], instant: datetime) -> None:
    """What the case itself adds: open, overdue, or the time that it took."""
    last, filed = one[-1], next((f for f in one if isinstance(f, CaseFiled)), None)
    if isinstance(last, CaseClosed):
        found.setdefault(key, Count()).spans.append(round((last.time - one[0].time).total_seconds()))
    elif filed is not None:
        group = found.setdefault(key, Count())
        group.counts["open"] += 1
        group.counts["overdue_open"] += filed.due < instant


def heard(engine: Engine, told: dict[str, list[CaseFact]], size: int = 70) -> None:
    """Let a node hear these logs in batches, interleaved, as a reader does: verified, kept, folded."""
    reader = Reader(READER, engine, fold)
    waiting = {origin: sealed(origin, log) for origin, log in told.items()}
    while waiting:
        for origin in list(waiting):
            entries, chains = waiting[origin]
            reader.apply(f"{origin}/case", entries[:size], chains[min(size, len(entries)) - 1])
            waiting[origin] = (entries[size:], chains[size:])
            if not entries[size:]:
                del waiting[origin]


def sealed(origin: str, told: Sequence[CaseFact]) -> tuple[list[logs.Entry], list[bytes]]:
    """The facts as the origin's sealer leaves them, and the chain after each."""
    entries, chains, chain, versions = [], [], bytes(32), dict[str, int]()
    for seq, fact in enumerate(told, 1):
        versions[fact.case] = versions.get(fact.case, 0) + 1
        entries.append(logs.Entry(1, seq, versions[fact.case], fact.case, fact.body(f"{origin}-{seq}", origin)))
        chain = logs.link(chain, entries[-1])
        chains.append(chain)
    return entries, chains


def tables(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """All rows, but for when they arrived."""
    lasting = [c for c in cases.c if c.name != "changed_at"]
    with engine.begin() as c:
        return {"cases": set(map(tuple, c.execute(select(*lasting)))), "totals": set(map(tuple, c.execute(select(totals))))}

