"""A small invented node for tests: one place, two categories, a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from services.case import rewards
from services.case.calendar import calendar_of
from services.case.catalogue import Catalogues
from services.case.commands import Report, act, report
from services.case.editions import catalogue_of
from services.case.policy import Policy, kept
from services.case.rewards import Held
from services.case.rulebook import routes
from services.case.rulesets import RuleSets
from services.case.worktime import WorkCalendar
from shared.database import Tx
from shared.errors import Invalid
from shared.kept import Kept
from shared.log import record

PLATFORM = frozenset({"integrator"})


@dataclass(frozen=True)
class Spot:
    cell: str | None
    division: str


def _category(code: str, *limits: str) -> dict[str, Any]:
    conditions = [
        {"code": str(n), "zh": "坏了", "en": "broken", "limit": limit, "closing_zh": "好了", "department": "lamps"}
        for n, limit in enumerate(limits, 1)
    ]
    return {"code": code, "zh": code, "en": code, "conditions": conditions}


CONTENT: dict[str, Any] = {
    "majors": [{"kind": "event", "code": "01", "zh": "事件"}, {"kind": "part", "code": "01", "zh": "部件"}],
    "departments": [{"code": "lamps", "zh": "路灯所", "en": "lamps"}, {"code": "roads", "zh": "市政处", "en": "roads"}],
    "categories": [_category("E0101", "2UH", "2WD"), _category("P0101", "48UH")],
}
"""A catalogue of two categories."""


@dataclass(frozen=True)
class Lamp:
    """A part of the register."""

    lon: float = 2.0
    lat: float = 2.0
    owner: str | None = "roads"
    maintainer: str | None = "lamps"


@dataclass
class Around:
    """Everything inside lon 0..10 belongs to cell 99001001001 of division 99; one lamp stands there."""

    zone: ZoneInfo = ZoneInfo("Asia/Shanghai")
    calendar: Kept[WorkCalendar] = field(default_factory=lambda: calendar_of(ZoneInfo("Asia/Shanghai"), "cn"))
    catalogue: Kept[Catalogues] = field(
        default_factory=lambda: catalogue_of({"edition": "test", "content": CONTENT}, ("99",))
    )
    policy: Kept[Policy] = field(default_factory=kept)
    routes: Kept[RuleSets] = field(default_factory=routes)
    rewards: Held = field(default_factory=rewards.kept)

    def locate(self, lon: float, lat: float) -> Spot:
        if not 0 <= lon <= 10:
            raise Invalid("this place lies outside the node", field="/lon")
        return Spot("99001001001", "99")

    def centre(self, cell: str) -> tuple[float, float]:
        if cell != "99001001001":
            raise Invalid("no such cell", field="/cell")
        return 1.0, 1.0

    def part(self, code: str) -> Lamp | None:
        return Lamp() if code == "9901010100000001" else None

    def chain(self, division: str) -> tuple[str, ...]:
        return (division,)


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 2, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, hours: float) -> None:
        self.at += timedelta(hours=hours)


@dataclass
class Desk:
    """A platform that tells a node what happened, and has a clock."""

    engine: Engine
    node: str
    clock: Clock
    around: Around

    def report(self, category: str = "E0101") -> str:
        with self.engine.begin() as c:
            return str(report(self._tx(c), self.around, Report(category, 1.0, 1.0, clocked=False))["id"])

    def act(self, case: str, action: str, **more: object) -> None:
        with self.engine.begin() as c:
            given = {"department": "lamps"}
            act(self._tx(c), self.around, case, action, PLATFORM, given=given, **more)  # type: ignore[arg-type]

    def _tx(self, connection: object) -> Tx:
        return Tx(connection, self.node, now=self.clock, recorder=record)  # type: ignore[arg-type]


def desk(engine: Engine, node: str = "99") -> Desk:
    return Desk(engine, node, Clock(), Around())
