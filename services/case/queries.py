"""Questions to the case service: one case, pages of de-identified cases in three formats, the quarantine."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from fastapi import Response
from sqlalchemy import Engine, Select, and_, or_, select

from services.case.tables import cases, quarantine
from shared.clock import stamp
from shared.database import reading
from shared.errors import Invalid, NotFound

PUBLIC = (
    "id", "number", "version", "state", "category", "edition", "channel", "provenance", "dataset", "lon", "lat", "division",
    "cell", "department", "reported_at", "filed_at", "due_at", "handled_at", "ended_at", "on_time", "changed_at",
)  # fmt: skip
"""What leaves the service; free text is not among it."""


class Wanted(NamedTuple):
    category: str | None = None
    state: str | None = None
    division: str | None = None
    reported_from: str | None = None
    reported_to: str | None = None
    changed_since: str | None = None
    bbox: str | None = None
    cursor: str | None = None
    limit: int = 100


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in PUBLIC}


def one(engine: Engine, case_id: str) -> dict[str, Any]:
    with reading(engine) as connection:
        row = connection.execute(select(cases).where(cases.c.id == case_id)).mappings().first()
    if row is None:
        raise NotFound("no such case here", field="/case")
    return dict(row)


def page(engine: Engine, wanted: Wanted) -> tuple[list[dict[str, Any]], str | None]:
    """Rows in order of (changed_at, id) and the cursor of the next page, if there is one. Raises Invalid naming the filter."""
    query = _where(select(cases), wanted).order_by(cases.c.changed_at, cases.c.id).limit(wanted.limit + 1)
    with reading(engine) as connection:
        rows = [shown(dict(r)) for r in connection.execute(query).mappings()]
    if len(rows) <= wanted.limit:
        return rows, None
    rows = rows[: wanted.limit]
    last = f"{rows[-1]['changed_at']} {rows[-1]['id']}"
    return rows, base64.urlsafe_b64encode(last.encode()).decode()


def _where(query: Select[Any], wanted: Wanted) -> Select[Any]:
    for name in ("category", "state", "division"):
        if value := getattr(wanted, name):
            query = query.where(cases.c[name] == value)
    if wanted.reported_from:
        query = query.where(cases.c.reported_at >= _instant("reported_from", wanted.reported_from))
    if wanted.reported_to:
        query = query.where(cases.c.reported_at < _instant("reported_to", wanted.reported_to))
    if wanted.changed_since:
        query = query.where(cases.c.changed_at >= _instant("changed_since", wanted.changed_since))
    if wanted.bbox:
        west, south, east, north = _box(wanted.bbox)
        query = query.where(cases.c.lon.between(west, east), cases.c.lat.between(south, north))
    if wanted.cursor:
        at, case_id = _cursor(wanted.cursor)
        query = query.where(or_(cases.c.changed_at > at, and_(cases.c.changed_at == at, cases.c.id > case_id)))
    return query


def _instant(name: str, text: str) -> str:
    try:
        return stamp(datetime.fromisoformat(text))
    except ValueError:
        raise Invalid("not an instant with offset, such as 2026-03-01T08:00:00+08:00", field=f"/{name}") from None


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(p) for p in text.split(","))
    except ValueError:
        raise Invalid("four numbers are needed: west,south,east,north", field="/bbox") from None
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise Invalid("west must not lie east of east, nor south north of north", field="/bbox")
    return west, south, east, north


def _cursor(text: str) -> tuple[str, str]:
    try:
        at, case_id = base64.urlsafe_b64decode(text.encode()).decode().split(" ")
        return at, case_id
    except ValueError:
        raise Invalid("not a cursor of this list", field="/cursor") from None


def answer(rows: Sequence[dict[str, Any]], following: str | None, form: str, known: str | None) -> Response:
    """The page as JSON, GeoJSON or CSV with an ETag; 304 where the caller has it already."""
    if form == "csv":
        body, kind = _csv(rows), "text/csv; charset=utf-8"
    elif form == "geojson":
        features = [_feature(r) for r in rows]
        body, kind = orjson.dumps({"type": "FeatureCollection", "features": features, "next": following}), "application/geo+json"
    else:
        body, kind = orjson.dumps({"items": rows, "next": following}), "application/json"
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
    if following:
        headers["X-Next-Cursor"] = following
    if known and headers["ETag"] in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=kind)


def _feature(row: dict[str, Any]) -> dict[str, Any]:
    rest = {k: v for k, v in row.items() if k not in ("lon", "lat", "id")}
    point = {"type": "Point", "coordinates": [row["lon"], row["lat"]]}
    return {"type": "Feature", "id": row["id"], "geometry": point, "properties": rest}


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, PUBLIC)
    writer.writeheader()
    for row in rows:
        # A spreadsheet takes a cell that opens like a formula for one.
        writer.writerow({k: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@\t\r" else v for k, v in row.items()})
    return out.getvalue().encode()


def quarantined(engine: Engine, limit: int) -> list[dict[str, Any]]:
    columns = [c for c in quarantine.c if c.name != "event"]
    query = select(*columns).where(quarantine.c.replayed_at.is_(None)).order_by(quarantine.c.received_at).limit(min(limit, 1000))
    with reading(engine) as connection:
        return [dict(r) for r in connection.execute(query).mappings()]


def kept(engine: Engine, item: str) -> dict[str, Any]:
    with reading(engine) as connection:
        row = connection.execute(select(quarantine).where(quarantine.c.id == item)).mappings().first()
    if row is None:
        raise NotFound("no such item in the quarantine", field="/item")
    return dict(row)
