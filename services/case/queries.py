"""Questions to the case service: one case, pages of de-identified cases, the quarantine."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from services.case.tables import cases, quarantine
from shared.database import reading
from shared.errors import NotFound
from shared.listing import Chain, Wanted, page

PUBLIC = (
    "id", "number", "version", "state", "category", "edition", "channel", "provenance", "dataset", "lon", "lat", "division",
    "cell", "department", "reported_at", "filed_at", "due_at", "handled_at", "ended_at", "on_time", "changed_at",
)  # fmt: skip
"""What leaves the service; free text is not among it."""


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in PUBLIC}


def one(engine: Engine, case_id: str) -> dict[str, Any]:
    with reading(engine) as connection:
        row = connection.execute(select(cases).where(cases.c.id == case_id)).mappings().first()
    if row is None:
        raise NotFound("no such case here", field="/case")
    return dict(row)


def many(engine: Engine, wanted: Wanted, chain: Chain) -> tuple[list[dict[str, Any]], str | None]:
    """A page of cases and the cursor of the next, if there is one. Raises Invalid naming the filter."""
    with reading(engine) as connection:
        return page(connection, cases, PUBLIC, wanted, chain)


def quarantined(engine: Engine, limit: int, platform: str | None) -> list[dict[str, Any]]:
    """Refused events that wait, oldest first, with the event as it came; of one platform or of all."""
    order = (quarantine.c.received_at, quarantine.c.id)
    query = select(quarantine).where(quarantine.c.replayed_at.is_(None)).order_by(*order).limit(limit)
    if platform is not None:
        query = query.where(quarantine.c.source == platform)
    with reading(engine) as connection:
        return [dict(r) for r in connection.execute(query).mappings()]
