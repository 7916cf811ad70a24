"""A seeded generator of cases as a county platform would push them; every one is labelled `generated`.

Shares and rhythms are coarse figures of published municipal records: most reports by day on week days, one in ten never accepted,
one in twelve still open, about a sixth late.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

PREFIX = "cn.sanji.platform.case."
HOURS = [1, 1, 1, 1, 1, 2, 4, 8, 12, 12, 11, 10, 8, 9, 11, 11, 10, 9, 7, 5, 4, 3, 2, 1]
WEEKDAYS = [10, 10, 10, 10, 9, 5, 4]
REFUSED, OPEN, LATE = 0.10, 0.08, 0.17

Spot = tuple[float, float]


def cases(
    seed: int,
    count: int,
    until: datetime,
    source: str,
    categories: Sequence[tuple[str, float]],
    spots: Sequence[Spot],
    days: int = 30,
) -> Iterator[list[dict[str, Any]]]:
    """`count` cases, each the list of its events in order of time; the same seed gives the same cases."""
    dice = random.Random(seed)
    for number in range(count):
        category, limit = dice.choice(categories)
        at = _moment(dice, until, days)
        case = f"g{seed}-{number}"
        lon, lat = dice.choice(spots)
        data = {"category": category, "lon": lon, "lat": lat, "channel": "platform", "provenance": "generated"}
        yield [_event(source, case, name, when, what) for name, when, what in _life(dice, at, limit, until, data)]


def _moment(dice: random.Random, until: datetime, days: int) -> datetime:
    back = dice.choices(range(days), [WEEKDAYS[(until - timedelta(days=d)).weekday()] for d in range(days)])[0]
    day = (until - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
    at = day + timedelta(hours=dice.choices(range(24), HOURS)[0], seconds=dice.randrange(3600))
    return min(at, until - timedelta(minutes=1))


def _life(
    dice: random.Random, at: datetime, limit: float, until: datetime, data: dict[str, Any]
) -> Iterator[tuple[str, datetime, dict[str, Any]]]:
    yield "reported", at, data
    fate = dice.random()
    filed = at + timedelta(minutes=dice.randint(1, 40))
    if filed >= until:
        return
    if fate < REFUSED:
        yield "refused", filed, {"reason": dice.choice(["duplicate", "out_of_scope", "not_found"])}
        return
    yield "filed", filed, {}
    late = dice.random() < LATE
    done = filed + timedelta(hours=limit * (dice.uniform(1.05, 3) if late else dice.uniform(0.05, 0.98)))
    for name, when, what in (
        ("dispatched", filed + timedelta(minutes=5), {"department": f"dept-{dice.randint(1, 6)}"}),
        ("handled", done, {}),
        ("closed", done + timedelta(minutes=30), {}),
    ):
        if when >= until or (fate < REFUSED + OPEN and name != "dispatched"):
            return
        yield name, when, what


def _event(source: str, case: str, name: str, when: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"{case}:{name}", "source": source, "type": f"{PREFIX}{name}.v1",
        "time": when.isoformat(), "subject": case, "data": data,
    }  # fmt: skip
