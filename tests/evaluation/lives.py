"""Made-up lives of cases under a seed, as facts, and what they come to, counted by hand from the facts alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from contracts.case import (
    CaseAmended,
    CaseAppealed,
    CaseClosed,
    CaseDispatched,
    CaseFact,
    CaseFiled,
    CaseMerged,
    CasePostponed,
    CaseRefused,
    CaseReopened,
    CaseReported,
    CaseResumed,
    CaseReturned,
    CaseReworked,
    CaseSelfHandled,
    CaseSuspended,
    CaseTaskAnswered,
    CaseUnmerged,
    CaseVoided,
    CaseWithdrawn,
)
from services.evaluation.handlers import READER, fold
from services.evaluation.tables import cases, totals
from shared import log as logs
from shared.reader import Reader
from tests.evaluation.walks import life

QUANTITIES = ("reported", "refused", "filed", "closed", "closed_on_time", "reworked", "exempted")


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
        spans = sorted(self.spans)
        base = self.counts["closed"] + self.counts["overdue_open"] - self.counts["exempted"]
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
            row = _about(origin, one)
            for name, day in _counted(one):
                whole = row | {"day": day}
                for key in keys(whole) if wanted(whole) else ():
                    found.setdefault(key, Count()).counts[name] += 1
            timeless = row | {"day": ""}
            for key in keys(timeless) if wanted(timeless) else ():
                _state(found, key, one, instant)
    return found


def _about(origin: str, one: list[CaseFact]) -> Row:
    """What the case is about in the end: all that it ever counted for is counted there."""
    first, last = one[0], [f for f in one if isinstance(f, CaseReported | CaseAmended)][-1]
    assert isinstance(first, CaseReported)
    return {"origin": origin, "division": last.place.division, "category": last.category, "provenance": first.provenance}


def _closing(one: list[CaseFact]) -> CaseClosed | None:
    """The closing that no reopening took back."""
    last = [f for f in one if isinstance(f, CaseClosed | CaseReopened)][-1:]
    return last[0] if last and isinstance(last[0], CaseClosed) else None


def _counted(one: list[CaseFact]) -> list[tuple[str, str]]:
    """(quantity, day) of everything that this case counts for."""
    found = [("reported", one[0].day)]
    found += [("filed", f.day) for f in one if isinstance(f, CaseFiled)][:1]
    found += [("refused", f.day) for f in one if isinstance(f, CaseRefused)]
    found += [("reworked", f.day) for f in one if isinstance(f, CaseReworked)]
    if (closing := _closing(one)) is not None:
        found += [("closed", closing.day)] + [("closed_on_time", closing.day)] * closing.on_time
        after = one[one.index(closing) :]
        found += [("exempted", closing.day) for f in after if isinstance(f, CaseAppealed) and f.result == "granted"]
    return found


def _standing(one: list[CaseFact]) -> list[CaseFact]:
    """The facts without mergings that were undone: the case stands where it stood."""
    found: list[CaseFact] = []
    for fact in one:
        if isinstance(fact, CaseUnmerged):
            assert isinstance(found.pop(), CaseMerged)
        else:
            found.append(fact)
    return found


OVER = (CaseReported, CaseRefused, CaseWithdrawn, CaseVoided, CaseClosed, CaseSelfHandled, CaseReopened, CaseMerged)


def _is_open(one: list[CaseFact]) -> bool:
    """Whether the last that decides it was a filing: neither an end, nor a way back behind the filing."""
    for fact in reversed(one):
        if isinstance(fact, CaseFiled):
            return True
        if isinstance(fact, OVER) or (isinstance(fact, CaseReturned) and fact.to in ("acceptance", "filing")):
            return False
    raise AssertionError("a life begins with a report")


def _due(one: list[CaseFact]) -> datetime | None:
    """The deadline that was said last, unless the clock stands since then or the case lies with nobody."""
    for fact in reversed(one):
        if isinstance(fact, CaseFiled | CasePostponed | CaseResumed) or (isinstance(fact, CaseDispatched) and fact.due):
            return fact.due
        failed = isinstance(fact, CaseTaskAnswered) and fact.result == "not_pass"
        if failed or isinstance(fact, CaseSuspended | CaseReturned | CaseReopened):
            return None
    return None


def _state(found: dict[tuple[str, ...], Count], key: tuple[str, ...], one: list[CaseFact], instant: datetime) -> None:
    """What the case itself adds: open, overdue, or the time that it took."""
    stands = _standing(one)
    if (closing := _closing(one)) is not None:
        found.setdefault(key, Count()).spans.append(round((closing.time - one[0].time).total_seconds()))
    if _is_open(stands):
        group, due = found.setdefault(key, Count()), _due(stands)
        group.counts["open"] += 1
        group.counts["overdue_open"] += due is not None and due < instant


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
