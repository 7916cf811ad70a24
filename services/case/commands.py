"""Use cases of the case service: each a plain function that takes a transaction: find, decide, change, state the fact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from contracts.base import Fact
from contracts.case import (
    CaseClosed,
    CaseDispatched,
    CaseFiled,
    CaseHandled,
    CaseRefused,
    CaseReported,
    CaseReworked,
    Channel,
    Place,
    Provenance,
)
from services.case import domain
from services.case.tables import cases, numbers
from shared.clock import civil_day, stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound

_FIND = select(cases).where(cases.c.id == bindparam("case"))
_CHANGE = update(cases).where(cases.c.id == bindparam("case"), cases.c.version == bindparam("seen"))
_ADD = insert(cases)
_NEXT = {
    name: dialect.insert(numbers)
    .values(day=bindparam("day"), last=1)
    .on_conflict_do_update(index_elements=["day"], set_={"last": numbers.c.last + 1})
    .returning(numbers.c.last)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
"""Statements of every step, built once: building one costs as much as running it."""


LEEWAY = timedelta(minutes=2)
"""How far the clock of a platform may run ahead of ours."""


class Located(Protocol):
    """What the place look-up answers."""

    @property
    def cell(self) -> str | None: ...
    @property
    def division(self) -> str: ...


class Surroundings(Protocol):
    """What the case service needs to know of its node: the zone, places and the catalogue in force."""

    zone: ZoneInfo

    def locate(self, lon: float, lat: float) -> Located:
        """Raises Invalid for a point outside the node."""
        ...

    def chain(self, division: str) -> tuple[str, ...]:
        """The divisions that a division lies in, itself first."""
        ...

    def limit(self, category: str) -> tuple[float, str]:
        """(limit in elapsed hours, edition). Raises Invalid for an unknown category."""
        ...


@dataclass(frozen=True)
class Report:
    """A report 上报 of a problem at a place; `text` stays at this node."""

    category: str
    lon: float
    lat: float
    channel: Channel = "collector"
    provenance: Provenance = "live"
    dataset: str | None = None
    text: str | None = None


def report(tx: Tx, around: Surroundings, what: Report, at: datetime | None = None) -> dict[str, Any]:
    """Register a report; answers its row. Raises Invalid naming the field."""
    at = at or tx.now()
    if at > tx.now() + LEEWAY:
        raise Invalid("a report cannot lie in the future", field="/time")
    with _about("/category"):
        _, edition = around.limit(what.category)
    with _about("/lon"):
        place = around.locate(what.lon, what.lat)
    day = civil_day(at, around.zone)
    row = {
        "id": tx.new_id(), "number": _number(tx, day), "version": 1, "state": "reported", "edition": edition,
        "division": place.division, "cell": place.cell, "reported_at": stamp(at), "last_at": stamp(at),
        "changed_at": stamp(tx.now()), **vars(what),
    }  # fmt: skip
    tx.execute(_ADD, row)
    tx.state(
        CaseReported(
            time=at,
            day=day,
            case=row["id"],
            number=row["number"],
            category=what.category,
            edition=edition,
            channel=what.channel,
            provenance=what.provenance,
            dataset=what.dataset,
            place=Place(lon=what.lon, lat=what.lat, division=place.division, cell=place.cell),
        )  # fmt: skip
    )
    return row


@contextmanager
def _about(field: str) -> Iterator[None]:
    """What is refused inside is the fault of this field: what a place or a limit is looked up for, the look-up cannot know."""
    try:
        yield
    except Invalid as error:
        raise Invalid(error.detail, field=field) from None


def act(
    tx: Tx, around: Surroundings, case_id: str, action: domain.Action, roles: frozenset[str], *,
    version: int | None = None, at: datetime | None = None, given: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Take one step of the workflow. Raises NotFound, Conflict (state or version), Forbidden, Invalid."""
    given = given or {}
    found = tx.execute(_FIND, {"case": case_id}).mappings().first()
    if found is None:
        raise NotFound("no such case here", field="/case")
    row = dict(found)
    if version is not None and version != row["version"]:
        raise Conflict(f"the case has version {row['version']}, not {version}", field="/version", version=row["version"])
    row_step = domain.step(row["state"], action, roles)
    # A platform's clock, or another copy's, may be ahead of ours: whoever acts now acts after them all the same.
    at = at or max(tx.now(), _last(row))
    _in_order(tx, row, at)
    changes, fact = _DECIDE[action](around, row, at, given)
    changes |= {"state": row_step.target, "version": row["version"] + 1, "last_at": stamp(at), "changed_at": stamp(tx.now())}
    hit = tx.execute(_CHANGE, {"case": case_id, "seen": row["version"], **changes})
    if hit.rowcount != 1:
        raise Conflict("somebody else acted on this case at the same moment", field="/version")
    tx.state(fact)
    return row | changes


def _in_order(tx: Tx, row: dict[str, Any], at: datetime) -> None:
    """A step may lie neither in the future nor before the step before it."""
    if at > tx.now() + LEEWAY:
        raise Invalid("a step cannot lie in the future", field="/time")
    if at < _last(row):
        raise Invalid(f"before the step that came before it ({stamp(_last(row))})", field="/time")


def _last(row: dict[str, Any]) -> datetime:
    """When the last step happened; rows older than that column know only some of their steps."""
    return unstamp(row["last_at"] or max(row[k] for k in ("reported_at", "filed_at", "handled_at") if row[k]))


def _common(around: Surroundings, row: dict[str, Any], at: datetime) -> dict[str, Any]:
    return {"time": at, "day": civil_day(at, around.zone), "case": row["id"]}


def _file(around: Surroundings, row: dict[str, Any], at: datetime, given: dict[str, Any]) -> tuple[dict[str, Any], Fact]:
    limit, _ = around.limit(row["category"])
    due = given.get("due") or domain.deadline(at, limit)
    return {"filed_at": stamp(at), "due_at": stamp(due)}, CaseFiled(**_common(around, row, at), due=due)


def _refuse(around: Surroundings, row: dict[str, Any], at: datetime, given: dict[str, Any]) -> tuple[dict[str, Any], Fact]:
    return {"ended_at": stamp(at)}, CaseRefused(**_common(around, row, at), reason=given.get("reason", "other"))


def _dispatch(around: Surroundings, row: dict[str, Any], at: datetime, given: dict[str, Any]) -> tuple[dict[str, Any], Fact]:
    if not given.get("department"):
        raise Invalid("to dispatch needs a department", field="/department")
    fact = CaseDispatched(**_common(around, row, at), department=given["department"])
    return {"department": given["department"]}, fact


def _handle(around: Surroundings, row: dict[str, Any], at: datetime, given: dict[str, Any]) -> tuple[dict[str, Any], Fact]:
    return {"handled_at": stamp(at)}, CaseHandled(**_common(around, row, at))


def _rework(around: Surroundings, row: dict[str, Any], at: datetime, given: dict[str, Any]) -> tuple[dict[str, Any], Fact]:
    return {"handled_at": None}, CaseReworked(**_common(around, row, at))


def _close(around: Surroundings, row: dict[str, Any], at: datetime, given: dict[str, Any]) -> tuple[dict[str, Any], Fact]:
    kept = domain.on_time(unstamp(row["handled_at"]), unstamp(row["due_at"]))
    opened = civil_day(unstamp(row["reported_at"]), around.zone)
    return {"ended_at": stamp(at), "on_time": kept}, CaseClosed(**_common(around, row, at), on_time=kept, opened=opened)


_DECIDE = {"file": _file, "refuse": _refuse, "dispatch": _dispatch, "handle": _handle, "rework": _rework, "close": _close}


def _number(tx: Tx, day: str) -> str:
    """Node, date and a daily sequence: for people to read out; nothing depends on its form."""
    last = tx.execute(_NEXT[tx.connection.dialect.name], {"day": day}).scalar_one()
    return f"{tx.node}-{day.replace('-', '')}-{last:05d}"
