"""Intake 信息收集: a report from any channel becomes a case, placed, categorised, its extra questions answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from contracts.case import CaseReported, Channel, Located, Place, Provenance
from services.case import notices, postings, questions
from services.case.catalogue import Catalogues
from services.case.effects import Clocks
from services.case.entries import Category
from services.case.policy import Policy
from services.case.tables import cases, numbers, requests
from services.case.worktime import WorkCalendar
from shared import audit
from shared.auth import Caller
from shared.clock import civil_day, stamp
from shared.database import Tx
from shared.errors import Conflict, Invalid
from shared.kept import Kept

_ADD, _ADD_REQUEST = insert(cases), insert(requests)
_ASKED = select(requests).where(requests.c.caller == bindparam("of"), requests.c.key == bindparam("named"))
_NEXT = {
    name: dialect.insert(numbers)
    .values(day=bindparam("day"), last=1)
    .on_conflict_do_update(index_elements=["day"], set_={"last": numbers.c.last + 1})
    .returning(numbers.c.last)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
"""Statements of every report, built once: building one costs as much as running it."""

NEW: dict[str, Any] = {c.name: None for c in cases.columns if c.nullable}
"""What a case just reported has not got yet, for whoever asks its row."""

LEEWAY = timedelta(minutes=2)
"""How far the clock of a platform may run ahead of ours."""


class Spot(Protocol):
    """What the place look-up answers."""

    @property
    def cell(self) -> str | None: ...
    @property
    def division(self) -> str: ...


class Part(Protocol):
    """What the register of parts says of one."""

    @property
    def lon(self) -> float: ...
    @property
    def lat(self) -> float: ...
    @property
    def owner(self) -> str | None: ...
    @property
    def maintainer(self) -> str | None: ...


class Surroundings(Protocol):
    """What the case service needs to know of its node: zone, calendar, catalogue, policy, and places."""

    zone: ZoneInfo
    calendar: Kept[WorkCalendar]
    catalogue: Kept[Catalogues]
    policy: Kept[Policy]

    def locate(self, lon: float, lat: float) -> Spot:
        """Raises Invalid for a point outside the node."""
        ...

    def centre(self, cell: str) -> tuple[float, float]:
        """A point (lon, lat) inside a cell. Raises Invalid for one that is not here."""
        ...

    def part(self, code: str) -> Part | None:
        """A part of the register, None where none has this code."""
        ...

    def chain(self, division: str) -> tuple[str, ...]:
        """The divisions that a division lies in, itself first."""
        ...


@dataclass(frozen=True)
class Report:
    """A report 上报 of a problem at a place: by a point, a grid cell, a part, or in words beside one of them.

    Text, described place and answers stay at this node. `clocked` is false for what a platform pushes, whose own clocks count;
    `self_handled` 自处理 says that the collector put it right on the spot.
    """

    category: str
    lon: float | None = None
    lat: float | None = None
    channel: Channel = "collector"
    provenance: Provenance = "live"
    dataset: str | None = None
    text: str | None = None
    application: str | None = None
    cell: str | None = None
    part: str | None = None
    place: str | None = None
    answers: dict[str, Any] | None = None
    clocked: bool = True
    self_handled: bool = False


@dataclass(frozen=True)
class Position:
    """Where a problem is, and what that was taken from."""

    lon: float
    lat: float
    division: str
    cell: str | None
    located: Located

    def fact(self) -> Place:
        return Place(lon=self.lon, lat=self.lat, division=self.division, cell=self.cell)


def position(
    around: Surroundings, lon: float | None, lat: float | None, cell: str | None, part: str | None, place: str | None = None
) -> Position:
    """Place a report. What is most exact wins: the point, then the part, then the cell. Raises Invalid naming the field."""
    if (lon is None) != (lat is None):
        raise Invalid("longitude and latitude belong together", field="/lat" if lat is None else "/lon")
    known = around.part(part) if part else None
    located: Located = "map"
    if lon is None or lat is None:
        if known is not None:
            lon, lat, located = known.lon, known.lat, "part"
        elif cell is not None:
            with about("/cell"):
                lon, lat = around.centre(cell)
            located = "described" if place else "cell"
        elif part is not None:
            raise Invalid("no part of the register has this code: give the place as well", field="/part")
        else:
            raise Invalid("say where: a point (lon, lat), a grid cell or a part", field="/lon")
    with about("/lon" if located == "map" else "/part" if located == "part" else "/cell"):
        spot = around.locate(lon, lat)
    if cell is not None and spot.cell is not None and spot.cell != cell:
        raise Invalid(f"the point lies in cell {spot.cell}", field="/cell")
    return Position(lon, lat, spot.division, spot.cell, located)


def classify(around: Surroundings, connection: Connection, category: str, day: date) -> tuple[Category, str]:
    """(category, edition) of the catalogue in force on a day. Raises Invalid naming /category."""
    edition = around.catalogue.get(connection).at(day)
    with about("/category"):
        return edition.category(category), edition.code


def report(
    tx: Tx, around: Surroundings, what: Report, at: datetime | None = None, who: Caller | None = None
) -> dict[str, Any]:
    """Register a report; answers its row. `who` is an account or a key of staff, never a reporter. Raises Invalid with field."""
    at = at or tx.now()
    if at > tx.now() + LEEWAY:
        raise Invalid("a report cannot lie in the future", field="/time")
    day = civil_day(at, around.zone)
    category, edition = classify(around, tx.connection, what.category, date.fromisoformat(day))
    answers = questions.check(category.questions, what.answers or {}) if what.answers or what.clocked else None
    spot = position(around, what.lon, what.lat, what.cell, what.part, what.place)
    row = {
        "id": tx.new_id(), "number": _number(tx, day), "version": 1, "state": "self_handled" if what.self_handled else "reported",
        "edition": edition,
        "category": what.category, "channel": what.channel, "provenance": what.provenance, "dataset": what.dataset,
        "application": what.application, "text": what.text, "place": what.place, "part": what.part, "answers": answers or None,
        "lon": spot.lon, "lat": spot.lat, "division": spot.division, "cell": spot.cell, "located": spot.located,
        "reported_at": stamp(at), "last_at": stamp(at), "changed_at": stamp(tx.now()), **_clocks(tx, around, what, at),
    }  # fmt: skip
    tx.execute(_ADD, row)
    postings.index(tx, row)
    notices.of_step(tx, None, NEW | row, "report", actor=who.name if who else what.channel, at=at)
    if who is not None:
        audit.note(tx, who.name, who.roles, "report", "case", row["id"])
    tx.state(
        CaseReported(
            time=at, day=day, case=row["id"], number=row["number"], category=what.category, edition=edition, channel=what.channel,
            provenance=what.provenance, dataset=what.dataset, application=what.application, part=what.part,
            located=spot.located, place=spot.fact(),
        )  # fmt: skip
    )
    return row


def _clocks(tx: Tx, around: Surroundings, what: Report, at: datetime) -> dict[str, Any]:
    """The clock of the acceptance 受理, which starts with the report."""
    if not what.clocked:
        return {"clocks": None, "stage": None, "warn_at": None, "late_at": None}
    clocks = Clocks(around.calendar.get(tx.connection), around.policy.get(tx.connection), at, {})
    clocks.start("acceptance", clocks.policy.stages["acceptance"])
    return clocks.columns("reported")


@contextmanager
def about(field: str) -> Iterator[None]:
    """What is refused inside is the fault of this field: what a place or a limit is looked up for, the look-up cannot know."""
    try:
        yield
    except Invalid as error:
        raise Invalid(error.detail, field=field) from None


def _number(tx: Tx, day: str) -> str:
    """Node, date and a daily sequence: for people to read out; nothing depends on its form."""
    last = tx.execute(_NEXT[tx.connection.dialect.name], {"day": day}).scalar_one()
    return f"{tx.node}-{day.replace('-', '')}-{last:05d}"


def once(tx: Tx, caller: str, key: str, body: Any) -> str | None:
    """The case that this caller made with this idempotency key, None for a key not used yet.

    Raises Conflict where the key was used for a report with other content: then one of the two is a mistake.
    """
    row = tx.execute(_ASKED, {"of": caller, "named": key}).first()
    if row is None:
        return None
    if bytes(row.digest) != digest(body):
        raise Conflict("this key was used for a report with other content", field="/idempotency-key")
    return str(row.case_id)


def remember(tx: Tx, caller: str, key: str, body: Any, case_id: str) -> None:
    """Keep an idempotency key together with the report that was made with it."""
    tx.execute(_ADD_REQUEST, {"caller": caller, "key": key, "digest": digest(body), "case_id": case_id, "at": stamp(tx.now())})


def digest(body: Any) -> bytes:
    """The same for equal content, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()
