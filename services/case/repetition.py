"""Repetition 重复发生: how often a family of problems was reported at the same cell, part or place in the days before a case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from services.case.duplicates import DEGREE, metres
from services.case.tables import cases
from shared.clock import stamp, unstamp

NO_PROBLEM = ("refused", "declined", "withdrawn", "void", "merged")
"""States of cases that say nothing of how often something happened."""
MEASURED = 2000
"""Cases near by that are measured at most: twice what a rule can ask for, and no filing waits for more."""
_ALIKE = (
    func.substr(cases.c.category, 1, 3) == bindparam("family"),
    cases.c.reported_at.between(bindparam("since"), bindparam("until")),
    cases.c.id != bindparam("case"),
    cases.c.state.not_in(NO_PROBLEM),
)
_AT: dict[str, Select[Any]] = {
    place: select(func.count()).where(cases.c[place] == bindparam("code"), *_ALIKE) for place in ("cell", "part")
}
_AROUND = (
    select(cases.c.lon, cases.c.lat)
    .where(
        cases.c.lat.between(bindparam("south"), bindparam("north")),
        cases.c.lon.between(bindparam("west"), bindparam("east")),
        *_ALIKE,
    )
    .limit(MEASURED)
)


class Earlier:
    """Counts of earlier cases beside one case, each asked of the database once."""

    def __init__(self, connection: Connection, row: Mapping[str, Any]) -> None:
        self._connection, self._row = connection, row
        self._counts: dict[tuple[int, str, int], int] = {}

    def __call__(self, days: int, place: str, within: int) -> int | None:
        """Cases of the same family reported within the days before this one, at its cell or part or (`near`) within the metres.

        None where the case has no cell or part. Reports that were no problem, or the same one, do not count.
        """
        if place != "near" and not self._row[place]:
            return None
        key = (days, place, within)
        if key not in self._counts:
            self._counts[key] = self._count(days, place, within)
        return self._counts[key]

    def _count(self, days: int, place: str, within: int) -> int:
        row = self._row
        alike = {
            "family": row["category"][:3], "case": row["id"], "until": row["reported_at"],
            "since": stamp(unstamp(row["reported_at"]) - timedelta(days=days)),
        }  # fmt: skip
        if place != "near":
            return int(self._connection.execute(_AT[place], alike | {"code": row[place]}).scalar_one())
        lon, lat, high = row["lon"], row["lat"], within / DEGREE
        wide = high / max(math.cos(math.radians(lat)), 0.01)
        box = {"south": lat - high, "north": lat + high, "west": lon - wide, "east": lon + wide}
        return sum(metres(lon, lat, r.lon, r.lat) <= within for r in self._connection.execute(_AROUND, alike | box))
