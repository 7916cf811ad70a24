"""Questions to the case service: one case as it is now, pages of de-identified cases, the quarantine."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, select

from services.case import clock, domain
from services.case.guards import Moment, barred, light
from services.case.intake import Surroundings
from services.case.photos import has
from services.case.tables import cases, quarantine
from services.case.worktime import Unannounced, WorkCalendar, used
from shared.auth import Caller
from shared.clock import stamp, unstamp
from shared.database import reading
from shared.errors import NotFound

PUBLIC = (
    "id", "number", "version", "state", "category", "edition", "condition", "channel", "application", "provenance", "dataset",
    "lon", "lat", "located", "division", "cell", "part", "department", "reported_at", "filed_at", "due_at", "handled_at",
    "ended_at", "on_time", "means", "appealed", "stage", "warn_at", "late_at", "reply_by", "postponements", "suspensions",
    "reopenings", "joined", "merged_into", "parent", "changed_at",
)  # fmt: skip
"""What leaves the service; free text is not among it, nor who acted."""
INSIDE = ("text", "place", "answers", "verified", "helpers", "handler", "returned_by", "rule", "wakes_at")
"""What only the node's own staff see."""
COUNTS = {"postponements": 0, "suspensions": 0, "reopenings": 0, "joined": 0}

_ONE = select(cases).where(cases.c.id == bindparam("case"))


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A case without persons and without free text; a row just made has no counts yet."""
    return {name: row.get(name, COUNTS.get(name)) for name in PUBLIC}


def row(connection: Connection, case_id: str) -> dict[str, Any]:
    """Raises NotFound."""
    found = connection.execute(_ONE, {"case": case_id}).mappings().first()
    if found is None:
        raise NotFound("no such case here", field="/case")
    return dict(found)


def now(connection: Connection, around: Surroundings, found: dict[str, Any], caller: Caller, at: datetime) -> dict[str, Any]:
    """A case with its light at `at`, what the caller may do with it then, and of the rest of his actions why not."""
    policy = around.policy.get(connection)
    roles = policy.widened(caller.roles)
    photos = partial(has, connection, found["id"])
    may: list[str] = []
    why: dict[str, str] = {}
    for step in domain.steps(found["state"]):
        if mine := step.roles & roles:
            reason = barred(step.guards, found, Moment(caller, mine, at, policy, {}, photos))
            if reason is None:
                may.append(step.action)
            else:
                why[step.action] = reason
    return shown(found) | {"light": light(found, stamp(at)), "allowed": may, "barred": why}


def inside(connection: Connection, around: Surroundings, found: dict[str, Any], at: datetime) -> dict[str, Any]:
    """What people wrote, who has it, and every clock explained."""
    return {name: found[name] for name in INSIDE} | {
        "clocks": _explained(connection, around, found, at), "total": _total(around.calendar.get(connection), found, at),
    }  # fmt: skip


def _total(calendar: WorkCalendar, found: dict[str, Any], at: datetime) -> dict[str, Any]:
    """How long the whole case has taken."""
    began, until = unstamp(found["reported_at"]), unstamp(found["ended_at"]) if found["ended_at"] else at
    try:
        work = int(used(calendar, began, until, "WH").total_seconds())
    except Unannounced:
        work = None
    return {"began": found["reported_at"], "ended": found["ended_at"], "seconds": int((until - began).total_seconds()),
            "work_seconds": work}  # fmt: skip


def _explained(connection: Connection, around: Surroundings, found: dict[str, Any], at: datetime) -> list[dict[str, Any]]:
    calendar, listed = around.calendar.get(connection), []
    for stage, kept in (found["clocks"] or {}).items():
        one = clock.of_json(kept)
        listed.append(
            {"stage": stage, "limit": kept.get("limit"), "began": kept["began"], "due": kept["due"], "held": one.held is not None,
             "ended": kept.get("ended"), "light": clock.light(one, at),
             "left_seconds": _left(calendar, one, at), "explained": clock.explain(calendar, one, at)}
        )  # fmt: skip
    return listed


def _left(calendar: WorkCalendar, one: clock.Clock, at: datetime) -> int | None:
    try:
        return int(clock.left(calendar, one, at).total_seconds())
    except Unannounced:
        # The deadline was fixed when its year was known; what lies between is asked of a year that is not known yet.
        return None


def quarantined(engine: Engine, limit: int, platform: str | None) -> list[dict[str, Any]]:
    """Refused events that wait, oldest first, with the event as it came; of one platform or of all."""
    order = (quarantine.c.received_at, quarantine.c.id)
    query = select(quarantine).where(quarantine.c.replayed_at.is_(None)).order_by(*order).limit(limit)
    if platform is not None:
        query = query.where(quarantine.c.source == platform)
    with reading(engine) as connection:
        return [dict(r) for r in connection.execute(query).mappings()]
