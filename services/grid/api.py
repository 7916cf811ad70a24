"""HTTP of the grid service: divisions and catalogue by day, the map right below the node, and what a point lies in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from threading import Lock
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from services.grid.domain import Category, Division
from services.grid.outlines import collection
from services.grid.packs import Pack
from shared.auth import public
from shared.clock import civil_day
from shared.database import now
from shared.errors import Invalid, NotFound
from shared.settings import Node
from shared.web import Runtime, refuse_unknown

router = APIRouter(prefix="/api/grid/v1", tags=["grid"], dependencies=[Depends(refuse_unknown)])
PUBLIC = "areas and cells are published data"
drawing = Lock()


@dataclass(frozen=True)
class Here:
    """What the routes work with; `day` is today's civil day at the node."""

    runtime: Runtime
    pack: Pack
    day: date


def here(request: Request) -> Here:
    runtime: Runtime = request.app.state.runtime
    return Here(runtime, runtime.extra["pack"], date.fromisoformat(civil_day(now(), runtime.node.tz)))


At = Annotated[date | None, Query(description="civil day; today without it", examples=["2015-02-28"])]
Known = Annotated[Here, Depends(here)]


@router.get("/locate", dependencies=[public(PUBLIC)])
def locate(
    known: Known,
    lon: Annotated[float, Query(ge=-180, le=180, examples=[87.62])],
    lat: Annotated[float, Query(ge=-90, le=90, examples=[43.72])],
) -> dict[str, Any]:
    """The cell that contains the point (of several the one with the smallest code), its division and every division above it."""
    cell = known.pack.cells.locate(lon, lat)
    if cell is None:
        raise NotFound("no cell contains this point", field="/lon")
    return {"cell": cell.code, "division": cell.division, "chain": _chain(known.pack, cell.division, known.day)}


@router.get("/divisions", dependencies=[public(PUBLIC)])
def divisions(
    known: Known,
    at: At = None,
    parent: Annotated[str | None, Query(description="only the units right below this code", examples=["650100"])] = None,
    level: Annotated[str | None, Query(description="only units of this level, as the pack calls it", examples=["县"])] = None,
) -> dict[str, Any]:
    """The units in force on a day, in order of code."""
    day, found = at or known.day, known.pack.divisions
    if parent is not None and parent not in known.pack.records:
        raise Invalid(f"no unit ever had the code {parent}", field="/parent")
    if level is not None and level not in (levels := {d.level_label for d in found}):
        raise Invalid(f"no unit is called that; levels are: {', '.join(sorted(levels))}", field="/level")
    wanted = [d for d in found if d.at(day) and parent in (None, d.parent) and level in (None, d.level_label)]
    return {"at": day, "edition": known.pack.edition, "items": [_record(d) for d in sorted(wanted, key=lambda d: d.code)]}


@router.get("/divisions/{code}", dependencies=[public(PUBLIC)])
def division(known: Known, code: Annotated[str, Path(max_length=20, examples=["650102"])], at: At = None) -> dict[str, Any]:
    """One unit on a day: its record, the units it lies in, nearest first, and the records that the code had before and after."""
    day, pack = at or known.day, known.pack
    if code not in pack.records:
        raise NotFound(f"no unit ever had the code {code}", field="/code")
    records = pack.records[code]
    current = pack.division(code, day)
    return {
        "at": day, "code": code, "record": _record(current) if current else None, "chain": _chain(pack, code, day)[1:],
        "former": [_record(d) for d in records if d.valid_to is not None and d.valid_to <= day],
        "later": [_record(d) for d in records if d.valid_from is not None and d.valid_from > day],
    }  # fmt: skip


@router.get("/catalogue", dependencies=[public(PUBLIC)])
def catalogue(known: Known, at: At = None) -> dict[str, Any]:
    """The categories in force on a day, with the limit of each in elapsed hours."""
    day = at or known.day
    return {"at": day, "edition": known.pack.edition, "items": [_category(c) for c in known.pack.catalogue if c.at(day)]}


@router.get(
    "/outlines", dependencies=[public(PUBLIC)], response_class=Response,
    responses={200: {"content": {"application/geo+json": {}}, "description": "a FeatureCollection"}},
)  # fmt: skip
def outlines(known: Known, if_none_match: Annotated[str, Header()] = "") -> Response:
    """The units right below this node as GeoJSON: nodes and divisions; `approximate` where no boundary file knows it."""
    drawn = _drawn(known)
    headers = {"ETag": f'W/"{drawn.tag}"', "Cache-Control": "public, max-age=300"}
    if drawn.tag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(drawn.body, media_type="application/geo+json", headers=headers)


@dataclass(frozen=True)
class Drawn:
    """A map as it is sent, and what it was made of."""

    node: Node
    day: date
    body: bytes

    @property
    def tag(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:32]


def _drawn(known: Here) -> Drawn:
    """The map of today, made once for as long as day and node stay what they are."""
    extra, node = known.runtime.extra, known.runtime.node
    with drawing:
        kept = extra.get("outlines")
        if kept is None or (kept.node, kept.day) != (node, known.day):
            kept = extra["outlines"] = Drawn(node, known.day, orjson.dumps(collection(known.pack, node, known.day)))
    return kept


def _chain(pack: Pack, code: str, day: date) -> list[dict[str, Any]]:
    """The divisions of a chain with their names; one that the pack does not name has none."""
    nameless = {"name_zh": None, "name_en": None, "level": None}
    records = [(c, pack.nearest(c, day) if c in pack.records else None) for c in pack.chain(code, day)]
    return [{"code": c, **(_names(d) if d else nameless)} for c, d in records]


def _names(division: Division) -> dict[str, str]:
    return {"name_zh": division.name_zh, "name_en": division.name_en, "level": division.level_label}


def _record(division: Division) -> dict[str, Any]:
    where = {"code": division.code, "parent": division.parent}
    return where | _names(division) | {"valid_from": division.valid_from, "valid_to": division.valid_to}


def _category(category: Category) -> dict[str, Any]:
    return {
        "code": category.code, "kind": category.kind, "name_zh": category.name_zh, "name_en": category.name_en,
        "limit_hours": category.limit_hours, "edition": category.edition, "valid_from": category.valid_from,
    }  # fmt: skip
