"""The timeline of a case 办理经过: the report and every step since, who, when, from where to where, what was said, the clocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from services.case.queries import row
from services.case.tables import platform_cases, steps
from shared.auth import Caller
from shared.errors import NotFound

FOR_ALL = ("version", "action", "source", "target", "at", "department", "clock")
INSIDE = ("noted_at", "actor", "roles", "opinion", "detail")
"""What only the node's own staff see: who acted, and what was said."""


def timeline(connection: Connection, case_id: str, who: Caller) -> dict[str, Any]:
    """{"case", "number", "version", "entries": [...]}, the oldest first.

    A platform sees the steps of the cases that it pushed itself, without who acted and what was said. Raises NotFound, also for a
    case that the caller may not see.
    """
    case = row(connection, case_id)
    if who.platform is not None and not _pushed(connection, case_id, who.platform):
        raise NotFound("no such case here", field="/case")
    query = select(steps).where(steps.c.case_id == case_id).order_by(steps.c.version)
    taken = [dict(step) for step in connection.execute(query).mappings()]
    names = FOR_ALL if who.platform is not None else (*FOR_ALL, *INSIDE)
    entries = [_of_report(case, taken[0]["source"] if taken else case["state"]), *map(_of_step, taken)]
    shown = [{name: entry[name] for name in names} for entry in entries]
    return {"case": case["id"], "number": case["number"], "version": case["version"], "entries": shown}


def _pushed(connection: Connection, case_id: str, platform: str) -> bool:
    mine = select(platform_cases.c.case_id).where(platform_cases.c.case_id == case_id, platform_cases.c.source == platform)
    return connection.execute(mine).first() is not None


def _of_report(case: Mapping[str, Any], state: str) -> dict[str, Any]:
    """The report stands first. Who reported is no part of it; by which channel is."""
    said = {name: case[name] for name in ("channel", "application", "provenance", "dataset") if case[name] is not None}
    return {
        "version": 1, "action": "report", "source": None, "target": state, "at": case["reported_at"], "department": None,
        "clock": None, "noted_at": None, "actor": None, "roles": [], "opinion": None, "detail": said,
    }  # fmt: skip


def _of_step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {**step, "roles": step["roles"].split()}
