"""HTTP of the grid service: outlines of the areas, and which cell and division a point lies in."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from shapely import MultiPoint, unary_union
from shapely.geometry import mapping

from services.grid.packs import Pack
from shared.auth import public
from shared.errors import NotFound
from shared.web import Runtime

router = APIRouter(prefix="/api/grid/v1", tags=["grid"])
PUBLIC = "areas and cells are published data"


def pack(request: Request) -> tuple[Runtime, Pack]:
    runtime: Runtime = request.app.state.runtime
    return runtime, runtime.extra["pack"]


@router.get("/locate", dependencies=[public(PUBLIC)])
def locate(
    request: Request,
    lon: Annotated[float, Query(ge=-180, le=180, examples=[87.62])],
    lat: Annotated[float, Query(ge=-90, le=90, examples=[43.72])],
) -> dict[str, Any]:
    """The cell that contains the point; a border point belongs to the covering cell with the smallest code."""
    _, known = pack(request)
    cell = known.cells.locate(lon, lat)
    if cell is None:
        raise NotFound("no cell contains this point", field="/lon")
    return {"cell": cell.code, "division": cell.division}


@router.get("/outlines", dependencies=[public(PUBLIC)])
def outlines(request: Request) -> dict[str, Any]:
    """Outlines of the nodes right below, made of their cells; where a node has no cells, a square around its point."""
    runtime, known = pack(request)
    features = []
    for child in runtime.node.children():
        codes = {b.code for b in runtime.node.subtree if child.code in b.route}
        shapes = [c.outline for c in known.cells.cells if c.code[:6] in codes]
        points = [(d.lon, d.lat) for d in known.divisions if d.code in codes and d.lon is not None and d.lat is not None]
        shape = unary_union(shapes) if shapes else MultiPoint(points).buffer(0.05, cap_style="square")
        names = {"code": child.code, "name_zh": child.names.zh, "name_en": child.names.en}
        features.append({"type": "Feature", "properties": names, "geometry": mapping(shape.convex_hull)})
    note = {"zh": known.note.zh, "en": known.note.en}
    return {"type": "FeatureCollection", "features": features, "note": note, "sources": list(known.sources)}
