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
from sqlalchemy import Connection, Select, Table, and_, func, or_, select

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


class Order(NamedTuple):
    """How a list is sorted: by a column of instants, then by id. Its index makes a page cheap wherever the page lies."""

    name: str
    column: str
    descending: bool = False


CHANGED = Order("changed", "changed_at")
Where = Callable[[Any], list[Any]]
"""Conditions, made from the columns of whatever the rows are taken from; they may use the columns that are shown."""
WINDOW = 5000
"""Rows that are looked at for one page at most, so that a filter that hardly any row passes costs no more than another."""


def page(
    connection: Connection, table: Table, columns: Sequence[str], wanted: Wanted, chain: Chain, *,
    where: Where | None = None, order: Order = CHANGED, first: Any = None, few: Any = None,
) -> tuple[list[dict[str, Any]], str | None]:  # fmt: skip
    """Rows in `order` and the cursor of the next page, if there is one. Raises Invalid naming the filter.

    `first` is a condition on the table by which an index leads to the rows in this order; `few` one that leads to few rows, in
    whatever order. A page may be shorter than its limit, or empty, while there is a next one. Whoever follows the cursor to the
    end, in order of change, gets every row that was there at the begin: one that stays as it is exactly once, one that changes
    meanwhile once more, later, as it is then. So a reader knows rows by `id` and keeps what came last.
    """
    divisions = None if wanted.area is None else inside(connection, table, wanted.area, chain)
    after, window = _after(wanted.cursor, order), max(WINDOW, wanted.limit + 1)
    query = select(*(table.c[c] for c in columns))
    if few is not None:
        # Nothing reaches this limit: it keeps a database from beginning at all rows in this order instead of at the few.
        near = query.where(few).limit(2**31).subquery()
    else:
        led = query if first is None else query.where(first)
        near = _along(led, table.c, order, after).where(*_spans(table.c, wanted, order)).limit(window).subquery()
    filters = [*conditions(near.c, wanted, divisions), *(where(near.c) if where else ())]
    found = _along(select(*(near.c[c] for c in columns)), near.c, order, after).where(*filters).limit(wanted.limit + 1)
    rows = [dict(zip(columns, r, strict=True)) for r in connection.execute(found)]
    if len(rows) > wanted.limit:
        rows = rows[: wanted.limit]
        return rows, _encoded(order, rows[-1][order.column], rows[-1]["id"])
    if few is not None or not filters:
        return rows, None
    # Fewer than wanted among those that were looked at: whether there are more to look at, tells the last of them.
    last = connection.execute(_along(select(near.c[order.column], near.c.id), near.c, order).offset(window - 1).limit(1)).first()
    return rows, None if last is None else _encoded(order, last[0], last[1])


def _along(query: Select[Any], c: Any, order: Order, after: tuple[str, str] | None = None) -> Select[Any]:
    """The query in `order`, from behind a row on."""
    key, ident = c[order.column], c.id
    if after is not None:
        at, case_id = after
        # Said twice, because both databases find the begin of a range by the first and not by the second.
        query = query.where(key <= at if order.descending else key >= at)
        beyond = (key < at, ident < case_id) if order.descending else (key > at, ident > case_id)
        query = query.where(or_(beyond[0], and_(key == at, beyond[1])))
    if c[order.column].nullable:
        query = query.where(key.is_not(None))
    return query.order_by(*((key.desc(), ident.desc()) if order.descending else (key, ident)))


def _spans(c: Any, wanted: Wanted, order: Order) -> list[Any]:
    """Filters by time; those of the column that the list is sorted by cut the rows that are looked at."""
    found = []
    if wanted.changed_since is not None and order.column == "changed_at":
        found.append(c.changed_at >= instant("changed_since", wanted.changed_since))
    if order.column == "reported_at":
        found += _reported(c, wanted)
    return found


def _reported(c: Any, wanted: Wanted) -> list[Any]:
    found = []
    if wanted.reported_from is not None:
        found.append(c.reported_at >= instant("reported_from", wanted.reported_from))
    if wanted.reported_to is not None:
        found.append(c.reported_at < instant("reported_to", wanted.reported_to))
    return found


def conditions(c: Any, wanted: Wanted, divisions: Sequence[str] | None) -> list[Any]:
    """The filters of a list but for the cursor; `divisions` are those within the area that is wanted. Raises Invalid."""
    found = [c[name] == value for name in ("category", "state") if (value := getattr(wanted, name)) is not None]
    found += _reported(c, wanted)
    if wanted.changed_since is not None:
        found.append(c.changed_at >= instant("changed_since", wanted.changed_since))
    if wanted.bbox is not None:
        west, south, east, north = _box(wanted.bbox)
        found += [c.lon.between(west, east), c.lat.between(south, north)]
    if divisions is not None:
        found.append(c.division.in_(divisions))
    return found


def inside(connection: Connection, table: Table, area: str, chain: Chain) -> list[str]:
    """The divisions of the rows that lie within `area`."""
    return [d for d in _divisions(connection, table) if area in chain(d)]


def _divisions(connection: Connection, table: Table) -> list[str]:
    """Every division that occurs: read from one to the next where an index leads there, since reading all rows takes long."""
    if not any(index.columns.keys()[:1] == ["division"] for index in table.indexes):
        return list(connection.execute(select(table.c.division).distinct()).scalars())
    step = select(func.min(table.c.division).label("code")).cte("step", recursive=True)
    following = select(func.min(table.c.division)).where(table.c.division > step.c.code).scalar_subquery()
    step = step.union_all(select(following).where(step.c.code.is_not(None)))
    return list(connection.execute(select(step.c.code).where(step.c.code.is_not(None))).scalars())


def instant(name: str, text: str) -> str:
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


def _encoded(order: Order, at: str, case_id: str) -> str:
    words = (at, case_id) if order == CHANGED else (order.name, at, case_id)
    return base64.urlsafe_b64encode(" ".join(words).encode()).decode()


def _after(cursor: str | None, order: Order) -> tuple[str, str] | None:
    """The row behind which a page begins. Raises Invalid for what is no cursor of a list in this order."""
    if cursor is None:
        return None
    try:
        words = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        at, case_id = words if order == CHANGED else words[1:]
        if stamp(datetime.fromisoformat(at)) != at or not case_id.isprintable() or (words[0] != order.name and order != CHANGED):
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
        writer.writerow({k: harmless(v) for k, v in row.items()})
    return out.getvalue().encode()


def harmless(value: Any) -> Any:
    """A value for a cell of a spreadsheet, which takes a text that opens like a formula for one."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
