"""Duplicates 重复案件: what was reported of the same kind, near by and not long ago, nearest by place and time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select

from services.case import domain
from services.case.intake import Surroundings
from services.case.tables import cases
from shared.clock import stamp, unstamp

DEGREE = 111_320.0
"""Metres of a degree of latitude; of a degree of longitude it is so many times the cosine of the latitude."""
MANY = 20
LOOKED_AT = 2000
"""Rows of one neighbourhood that are measured: beyond that the distance set for a category is too wide to mean anything."""
SHOWN = ("id", "number", "state", "category", "lon", "lat", "division", "cell", "part", "reported_at", "joined")

_NEAR = (
    select(*(cases.c[name] for name in SHOWN))
    .where(
        cases.c.lat.between(bindparam("south"), bindparam("north")),
        cases.c.lon.between(bindparam("west"), bindparam("east")),
        cases.c.category >= bindparam("family"),
        cases.c.category < bindparam("beyond"),
        cases.c.reported_at.between(bindparam("since"), bindparam("until")),
        cases.c.state.in_(sorted(domain.OPEN)),
        cases.c.id != bindparam("but"),
    )
    .order_by(cases.c.reported_at.desc())
    .limit(LOOKED_AT)
)
_SAME_PART = (
    select(*(cases.c[name] for name in SHOWN))
    .where(cases.c.part == bindparam("part"), cases.c.state.in_(sorted(domain.OPEN)), cases.c.id != bindparam("but"))
    .order_by(cases.c.reported_at.desc())
    .limit(MANY)
)


@dataclass(frozen=True)
class Where:
    """A problem whose likes are looked for: at `at`, and never the case `but` itself."""

    category: str
    lon: float
    lat: float
    at: datetime
    part: str | None = None
    but: str = ""


def metres(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    """The distance of two points near each other."""
    east = (other_lon - lon) * DEGREE * math.cos(math.radians((lat + other_lat) / 2))
    return math.hypot(east, (other_lat - lat) * DEGREE)


def near(connection: Connection, around: Surroundings, what: Where) -> list[dict[str, Any]]:
    """Open cases of the same family within the distance and time that the policy sets for the category, likeliest first.

    Each has `metres` and `hours`; how likely it is the same problem falls with both, as parts of what the policy allows. Another
    case about the same part is the likeliest, however long ago it was reported.
    """
    family = what.category[:3]
    limits = around.policy.get(connection).near(what.category, family)
    high = limits.metres / DEGREE
    wide = high / max(math.cos(math.radians(what.lat)), 0.01)
    span = timedelta(hours=limits.hours)
    rows = connection.execute(
        _NEAR,
        {"south": what.lat - high, "north": what.lat + high, "west": what.lon - wide, "east": what.lon + wide, "family": family,
         "beyond": family + "\x7f", "since": stamp(what.at - span), "until": stamp(what.at + span), "but": what.but},
    ).mappings()  # fmt: skip
    found = {r["id"]: _measured(dict(r), what) for r in rows}
    same = connection.execute(_SAME_PART, {"part": what.part, "but": what.but}).mappings() if what.part else ()
    first = {r["id"]: _measured(dict(r), what) for r in same}
    others = [r for r in found.values() if r["metres"] <= limits.metres and r["id"] not in first]
    others.sort(key=lambda r: r["metres"] / limits.metres + r["hours"] / limits.hours)
    return [*first.values(), *others][:MANY]


def _measured(row: Mapping[str, Any], what: Where) -> dict[str, Any]:
    apart = abs(what.at - unstamp(row["reported_at"]))
    distance = metres(what.lon, what.lat, row["lon"], row["lat"])
    return {**row, "metres": round(distance, 1), "hours": round(apart / timedelta(hours=1), 2)}


def behind(connection: Connection, case_id: str) -> list[dict[str, Any]]:
    """The cases that were merged into this one."""
    query = select(*(cases.c[name] for name in SHOWN)).where(cases.c.merged_into == case_id).order_by(cases.c.reported_at)
    return [dict(r) for r in connection.execute(query).mappings()]
