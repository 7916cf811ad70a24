"""A seeded generator of cases as a county platform would push them, after published rates; every one is labelled `generated`.

`cases` tells a history that ends at a moment; `Life` goes on from there, as a demonstration needs it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from deploy.rates import Arrivals, Rates, published

PREFIX = "cn.sanji.platform.case."
PAUSE = timedelta(minutes=5)
"""After a longer silence the generator was switched off; nobody reported anything meanwhile."""
DEPARTMENTS = 6

Spot = tuple[float, float]
Step = tuple[str, datetime, dict[str, Any]]


class _Maker:
    """Makes whole cases, from the report to the last step, whether or not that lies in the future already."""

    def __init__(
        self, source: str, categories: Sequence[tuple[str, float]], spots: Sequence[Spot], rates: Rates, pace: float
    ) -> None:
        self.source, self.categories, self.spots, self.rates, self.pace = source, categories, spots, rates, pace
        shares = [rates.categories.shares.get(code, 0.0) for code, _ in categories]
        # A catalogue of which the rates know nothing at all is drawn from evenly.
        self.weights = shares if any(shares) else [1.0] * len(shares)

    def case(self, dice: random.Random, name: str, at: datetime) -> list[dict[str, Any]]:
        """Every event of the case `name` reported `at`, in order of time."""
        told: dict[str, int] = {}
        events = []
        for step, when, data in self._steps(dice, at):
            told[step] = told.get(step, 0) + 1
            suffix = f"-{told[step]}" if told[step] > 1 else ""
            events.append(
                {
                    "specversion": "1.0", "id": f"{name}:{step}{suffix}", "source": self.source, "type": f"{PREFIX}{step}.v1",
                    "time": when.astimezone(UTC).isoformat(), "subject": name, "data": data,
                }  # fmt: skip
            )
        return events

    def _steps(self, dice: random.Random, at: datetime) -> Iterator[Step]:
        category, limit_hours = dice.choices(self.categories, self.weights)[0]
        lon, lat = dice.choice(self.spots)
        yield "reported", at, {"category": category, "lon": lon, "lat": lat, "channel": "platform", "provenance": "generated"}
        filed = at + self._minutes(dice, self.rates.steps.filing)
        if reason := self._refusal(dice):
            yield "refused", filed, {"reason": reason}
            return
        limit = timedelta(hours=limit_hours) / self.pace
        # At another pace than that of the clock the deadline has to be said; otherwise the node knows it.
        yield "filed", filed, {} if self.pace == 1 else {"due": (filed + limit).astimezone(UTC).isoformat()}
        yield from self._handling(dice, filed, limit)

    def _handling(self, dice: random.Random, filed: datetime, limit: timedelta) -> Iterator[Step]:
        handled = filed + limit * self.rates.closing.multiple(dice.random())
        dispatched = min(filed + self._minutes(dice, self.rates.steps.dispatch), filed + (handled - filed) / 2)
        yield "dispatched", dispatched, {"department": f"dept-{dice.randint(1, DEPARTMENTS)}"}
        if dice.random() < self.rates.open.after_limit:
            return
        if dice.random() < self.rates.steps.rework:
            yield "handled", dispatched + (handled - dispatched) * 0.6, {}
            yield "reworked", dispatched + (handled - dispatched) * 0.7, {}
        yield "handled", handled, {}
        yield "closed", handled + self._minutes(dice, self.rates.steps.checking), {}

    def _refusal(self, dice: random.Random) -> str | None:
        left = dice.random()
        for refused in self.rates.refused:
            left -= refused.share
            if left < 0:
                return refused.reason
        return None

    def _minutes(self, dice: random.Random, span: tuple[float, float]) -> timedelta:
        return timedelta(minutes=dice.uniform(*span)) / self.pace


def cases(
    seed: int, count: int, until: datetime, source: str, categories: Sequence[tuple[str, float]], spots: Sequence[Spot],
    days: int = 30, *, rates: Rates | None = None, zone: tzinfo | None = None,
) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """`count` cases in order of report, each the list of its events in order of time; the same seed gives the same cases.

    `categories`: (code, limit in hours); `spots`: (lon, lat); reports come in the `days` before `until` at the hours of `zone`
    (of `until` without it). What would lie after `until` has not happened.
    """
    dice = random.Random(seed)
    rates = rates or published()
    maker = _Maker(source, categories, spots, rates, pace=1)
    for number, at in enumerate(sorted(_moments(dice, count, until, days, rates.arrivals, zone))):
        events = maker.case(dice, f"g{seed}-{number}", at)
        yield [e for e in events if datetime.fromisoformat(e["time"]) <= until]


def _moments(
    dice: random.Random, count: int, until: datetime, days: int, arrivals: Arrivals, zone: tzinfo | None
) -> Iterator[datetime]:
    here = until.astimezone(zone or until.tzinfo)
    last = here - timedelta(minutes=here.minute, seconds=here.second, microseconds=here.microsecond)
    hours = [(last.astimezone(UTC) - timedelta(hours=n)).astimezone(here.tzinfo) for n in range(days * 24 + 1)]
    weights = [arrivals.weight(hour) for hour in hours]
    found = 0
    while found < count:
        at = dice.choices(hours, weights)[0] + timedelta(seconds=dice.randrange(3600))
        if until - timedelta(days=days) <= at <= until:
            found += 1
            yield at


class Life:
    """Cases that go on happening: about `per_minute` reports in an average minute of the week, by day more than by night.

    Reports come at the real time of day; what follows is `pace` times faster than in the rates, deadlines as well, so that a
    viewer sees cases close within minutes. `seed` and the moment of the first tick decide everything that happens.
    """

    def __init__(
        self, seed: int, source: str, categories: Sequence[tuple[str, float]], spots: Sequence[Spot], rates: Rates | None = None,
        *, per_minute: float = 6.0, pace: float = 360.0, zone: tzinfo = UTC,
    ) -> None:  # fmt: skip
        self.seed, self.zone, self.rates = seed, zone, rates or published()
        self.maker = _Maker(source, categories, spots, self.rates, pace)
        self.fastest = per_minute * self.rates.arrivals.peak()
        self.born: datetime | None = None
        self.number = 0
        self.next = datetime.max.replace(tzinfo=UTC)
        self.open: list[dict[str, Any]] = []

    def tick(self, now: datetime) -> list[dict[str, Any]]:
        """The events that became due since the tick before, in order of time; none lies after `now`."""
        if self.born is None:
            self.born = self.next = now
        if now - self.next > PAUSE:
            # A new beginning also gives new names, so that nothing made before a crash and not saved is told differently.
            self.born = self.next = now
        while self.next <= now:
            self._arrive(self.next)
        due = [e for e in self.open if datetime.fromisoformat(e["time"]) <= now]
        self.open = [e for e in self.open if datetime.fromisoformat(e["time"]) > now]
        # Stable, so that the steps of one case that share a moment keep their order.
        return sorted(due, key=lambda e: datetime.fromisoformat(e["time"]))

    def _arrive(self, at: datetime) -> None:
        """One chance of a report, and when the next one comes: chances are even, and at quiet hours most are not taken."""
        began = f"{self.born:%y%m%d%H%M%S}"
        dice = random.Random(f"{self.seed}:{began}:{self.number}")
        if dice.random() < self.rates.arrivals.weight(at.astimezone(self.zone)) / self.rates.arrivals.peak():
            self.open += self.maker.case(dice, f"g{self.seed}-{began}-{self.number}", at)
        self.number += 1
        self.next = at + timedelta(minutes=dice.expovariate(self.fastest))

    def save(self) -> dict[str, Any]:
        """Everything needed to go on later, as plain JSON."""
        born = self.born.isoformat() if self.born else None
        return {"seed": self.seed, "born": born, "number": self.number, "next": self.next.isoformat(), "open": self.open}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on where `save` was called; steps that fell due meanwhile come with the first tick. Raises KeyError, ValueError."""
        self.seed, self.number, self.open = int(saved["seed"]), int(saved["number"]), list(saved["open"])
        self.born = datetime.fromisoformat(saved["born"]) if saved["born"] else None
        self.next = datetime.fromisoformat(saved["next"])
