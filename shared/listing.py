"""Pages of de-identified cases as third parties read them: filters, a cursor in order of change, three formats, an ETag."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from fastapi import Response
from sqlalchemy import Connection, Select, Table, and_, or_, select

from shared.clock import stamp
from shared.errors import Invalid

Chain = Callable[[str], tuple[str, ...]]
"""The divisions that a division lies in, itself first."""


FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Wanted(NamedTuple):
    """Which rows: exact codes, instants with offset as texts, a box `west,south,east,north`, the cursor of the page before.

    None is no filter; an empty text is one, since somebody who sent it meant something else than everything.
    """

    category: str | None = None
    state: str | None = None
    area: str | None = None
    reported_from: str | None = None
    reported_to: str | None = None
    changed_since: str | None = None
    bbox: str | None = None
    cursor: str | None = None
    limit: int = 100


def page(
    connection: Connection, table: Table, columns: Sequence[str], wanted: Wanted, chain: Chain
) -> tuple[list[dict[str, Any]], str | None]:
    """Rows in order of (changed_at, id) and the cursor of the next page, if there is one. Raises Invalid naming the filter.

    Whoever follows the cursor to the end gets every row that was there at the begin: one that stays as it is exactly once, one
    that changes meanwhile once more, later, as it is then. So a reader knows rows by `id` and keeps what came last.
    """
    query = _where(select(*(table.c[c] for c in columns)), table, wanted)
    if wanted.area is not None:
        inside = [d for (d,) in connection.execute(select(table.c.division).distinct()) if wanted.area in chain(d)]
        query = query.where(table.c.division.in_(inside))
    query = query.order_by(table.c.changed_at, table.c.id).limit(wanted.limit + 1)
    rows = [dict(zip(columns, r, strict=True)) for r in connection.execute(query)]
    if len(rows) <= wanted.limit:
        return rows, None
    rows = rows[: wanted.limit]
    last = f"{rows[-1]['changed_at']} {rows[-1]['id']}"
    return rows, base64.urlsafe_b64encode(last.encode()).decode()


def _where(query: Select[Any], table: Table, wanted: Wanted) -> Select[Any]:
    for name in ("category", "state"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(table.c[name] == value)
    if wanted.reported_from is not None:
        query = query.where(table.c.reported_at >= _instant("reported_from", wanted.reported_from))
    if wanted.reported_to is not None:
        query = query.where(table.c.reported_at < _instant("reported_to", wanted.reported_to))
    if wanted.changed_since is not None:
        query = query.where(table.c.changed_at >= _instant("changed_since", wanted.changed_since))
    if wanted.bbox is not None:
        west, south, east, north = _box(wanted.bbox)
        query = query.where(table.c.lon.between(west, east), table.c.lat.between(south, north))
    if wanted.cursor is not None:
        at, case_id = _cursor(wanted.cursor)
        query = query.where(or_(table.c.changed_at > at, and_(table.c.changed_at == at, table.c.id > case_id)))
    return query


def _instant(name: str, text: str) -> str:
    try:
        return stamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
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
        if stamp(datetime.fromisoformat(at)) != at or not case_id.isprintable():
            raise ValueError
        return at, case_id
    except (ValueError, OverflowError):
        raise Invalid("not a cursor of this list", field="/cursor") from None


def answer(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], following: str | None, form: str, known: str | None
) -> Response:
    """The page as JSON, GeoJSON or CSV with an ETag; 304 where the caller has it already."""
    if form == "csv":
        body, kind = _csv(rows, columns), "text/csv; charset=utf-8"
    elif form == "geojson":
        features = [_feature(r) for r in rows]
        body, kind = orjson.dumps({"type": "FeatureCollection", "features": features, "next": following}), "application/geo+json"
    else:
        body, kind = orjson.dumps({"items": rows, "next": following}), "application/json"
    return tagged(body, kind, known, {"X-Next-Cursor": following} if following else {})


def documented(model: Any, *forms: str) -> dict[int | str, dict[str, Any]]:
    """For a route's interface document: the answer's shape, further media types, and the answer to a known ETag."""
    unchanged = {"description": "nothing changed since the ETag"}
    return {200: {"model": model, "content": {form: {} for form in forms}}, 304: unchanged}


def tagged(body: bytes, kind: str, known: str | None, headers: dict[str, str] | None = None) -> Response:
    """An answer with an ETag of its content, or 304 where `known` (If-None-Match) names it."""
    # Weak, because compression on the way changes the bytes but not what they say.
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    if known and tag.removeprefix("W/") in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=kind)


def _feature(row: dict[str, Any]) -> dict[str, Any]:
    rest = {k: v for k, v in row.items() if k not in ("lon", "lat", "id")}
    # A row from before places were kept has none; GeoJSON says so with null, not with a point of nothing.
    known = row["lon"] is not None and row["lat"] is not None
    point = {"type": "Point", "coordinates": [row["lon"], row["lat"]]} if known else None
    return {"type": "Feature", "id": row["id"], "geometry": point, "properties": rest}


def _csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    for row in rows:
        # A spreadsheet takes a cell that opens like a formula for one.
        writer.writerow({k: f"'{v}" if isinstance(v, str) and v.startswith(FORMULA) else v for k, v in row.items()})
    return out.getvalue().encode()
