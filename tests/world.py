"""A small invented node for tests: one place, two categories, a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from services.case.commands import Report, act, report
from shared.database import Tx
from shared.errors import Invalid
from shared.log import record

ALL = frozenset({"acceptor", "shift_supervisor", "dispatcher", "department", "checker"})


@dataclass(frozen=True)
class Spot:
    cell: str | None
    division: str


@dataclass
class Around:
    """Everything inside lon 0..10 belongs to division 99."""

    zone: ZoneInfo = ZoneInfo("Asia/Shanghai")

    def locate(self, lon: float, lat: float) -> Spot:
        if not 0 <= lon <= 10:
            raise Invalid("this place lies outside the node", field="/lon")
        return Spot("99001001001", "99")

    def limit(self, category: str) -> tuple[float, str]:
        limits = {"E0101": 2.0, "P0101": 48.0}
        if category not in limits:
            raise Invalid(f"no category {category} in the catalogue", field="/category")
        return limits[category], "test"


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 2, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, hours: float) -> None:
        self.at += timedelta(hours=hours)


@dataclass
class Desk:
    """Someone at a node who may do everything and has a clock."""

    engine: Engine
    node: str
    clock: Clock
    around: Around

    def report(self, category: str = "E0101") -> str:
        with self.engine.begin() as c:
            return str(report(self._tx(c), self.around, Report(category, 1.0, 1.0))["id"])

    def act(self, case: str, action: str, **more: object) -> None:
        with self.engine.begin() as c:
            given = {"department": "lamps"}
            act(self._tx(c), self.around, case, action, ALL, given=given, **more)  # type: ignore[arg-type]

    def _tx(self, connection: object) -> Tx:
        return Tx(connection, self.node, now=self.clock, recorder=record)  # type: ignore[arg-type]


def desk(engine: Engine, node: str = "99") -> Desk:
    return Desk(engine, node, Clock(), Around())
